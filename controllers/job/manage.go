// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/rules/pods"
)

// Back-off between a pod's failure and its successor: doubled per failure in a row.
const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 10 * time.Minute
)

// manage starts or ends pods so that as many run as should.
func (s *round) manage(ctx context.Context) error {
	parallelism := 1
	if s.job.Spec.Parallelism != nil {
		parallelism = int(*s.job.Spec.Parallelism)
	}
	want := parallelism
	switch s.job.Spec.Completions {
	case nil:
		if s.successes > 0 {
			want = len(s.active) // a work queue that has begun to drain gets no new workers
		}
		want = min(want, parallelism)
	default:
		left := s.completions() - s.successes
		if s.job.Spec.BackoffLimitPerIndex != nil {
			left -= s.failedIndexes.count()
		}
		want = min(want, max(left, 0))
	}
	if over := len(s.active) - want; over > 0 {
		return s.deletePods(ctx, s.surplus(over), uncounted)
	}
	busy := len(s.active)
	if replaceOnlyFailed(s.job) {
		busy += len(s.terminating)
	}
	missing := want - busy
	if missing <= 0 {
		return nil
	}
	if indexed(s.job) {
		return s.startIndexes(ctx, missing)
	}
	if wait := s.backoff(s.finishedPods()); wait > 0 {
		s.wake(wait)
		return nil
	}
	return s.start(ctx, make([]int, min(missing, burst)), false)
}

// surplus picks the active pods to end first: duplicates of one index and those furthest from success.
func (s *round) surplus(n int) []*corev1.Pod {
	order := slices.Clone(s.active)
	pods.SortForDeletion(order, func(*corev1.Pod) int { return 0 }, s.now)
	if indexed(s.job) {
		slices.SortStableFunc(order, func(a, b *corev1.Pod) int { return indexOf(b) - indexOf(a) })
		slices.SortStableFunc(order, func(a, b *corev1.Pod) int { return rank(b, s.completions()) - rank(a, s.completions()) })
	}
	return order[:min(n, len(order))]
}

// rank puts pods without a valid index first.
func rank(pod *corev1.Pod, completions int) int {
	if i := indexOf(pod); i < 0 || i >= completions {
		return 1
	}
	return 0
}

// finishedPods are all ended pods that are still there.
func (s *round) finishedPods() []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(s.owned), func(p *corev1.Pod) bool { return !pods.IsFinished(p) })
}

// backoff returns how long the next pod has to wait for the failures since the last success among the pods.
func (s *round) backoff(ended []*corev1.Pod) time.Duration {
	var lastSuccess, lastFailure time.Time
	for _, pod := range ended {
		if at := endOf(pod); pod.Status.Phase == corev1.PodSucceeded && at.After(lastSuccess) {
			lastSuccess = at
		}
	}
	failures := 0
	for _, pod := range ended {
		at := endOf(pod)
		if pod.Status.Phase != corev1.PodFailed || !at.After(lastSuccess) {
			continue
		}
		failures++
		if at.After(lastFailure) {
			lastFailure = at
		}
	}
	if failures == 0 {
		return 0
	}
	delay := lastBackoff
	if failures < 8 {
		delay = min(firstBackoff<<(failures-1), lastBackoff)
	}
	return max(0, lastFailure.Add(delay).Sub(s.now))
}

// endOf is when a pod's last container ended, or when it was deleted or made, for want of better.
func endOf(pod *corev1.Pod) time.Time {
	var last time.Time
	for _, c := range pod.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	switch {
	case !last.IsZero():
		return last
	case pod.DeletionTimestamp != nil:
		return pod.DeletionTimestamp.Time
	}
	return pod.CreationTimestamp.Time
}

// startIndexes starts pods for the lowest indexes that have none.
func (s *round) startIndexes(ctx context.Context, missing int) error {
	busy := map[int]bool{}
	for _, pod := range s.active {
		busy[indexOf(pod)] = true
	}
	if replaceOnlyFailed(s.job) {
		for _, pod := range s.terminating {
			busy[indexOf(pod)] = true
		}
	}
	perIndex := s.job.Spec.BackoffLimitPerIndex != nil
	if !perIndex {
		if wait := s.backoff(s.finishedPods()); wait > 0 {
			s.wake(wait)
			return nil
		}
	}
	var free []int
	for i := 0; i < s.completions() && len(free) < min(missing, burst); i++ {
		if busy[i] || s.completed.has(i) || s.failedIndexes.has(i) {
			continue
		}
		if perIndex {
			of := slices.DeleteFunc(s.finishedPods(), func(p *corev1.Pod) bool { return indexOf(p) != i })
			if wait := s.backoff(of); wait > 0 {
				s.wake(wait)
				continue
			}
		}
		free = append(free, i)
	}
	return s.start(ctx, free, true)
}

// start makes one pod per entry; the entries are indexes where the Job is indexed.
func (s *round) start(ctx context.Context, indexes []int, withIndex bool) error {
	s.expected.ExpectCreates(s.key, len(indexes))
	owner := metav1.NewControllerRef(s.job, kind)
	for n, index := range indexes {
		pod := pods.FromTemplate(&s.job.Spec.Template, s.job.Namespace, s.job.Name, owner)
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
		if withIndex {
			dress(pod, s.job, index)
			s.noteFailures(pod, index)
		}
		created, err := s.podAPI.Create(ctx, pod)
		if err != nil {
			for range len(indexes) - n {
				s.expected.Created(s.key)
			}
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil
			}
			s.Events.Event(s.job, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
			return err
		}
		s.active = append(s.active, created)
		s.Events.Event(s.job, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", created.Name)
	}
	return nil
}

// noteFailures writes on a pod how often its index has failed before.
func (s *round) noteFailures(pod *corev1.Pod, index int) {
	if s.job.Spec.BackoffLimitPerIndex == nil {
		return
	}
	failures, ignored := int32(0), int32(0)
	for _, old := range s.owned {
		if indexOf(old) != index || !podFailed(s.job, old) {
			continue
		}
		f, g := indexFailures(old), ignoredFailures(old)
		if judge(s.job.Spec.PodFailurePolicy, old).action == batchv1.PodFailurePolicyActionIgnore {
			g++
		} else {
			f++
		}
		failures, ignored = max(failures, f), max(ignored, g)
	}
	pod.Annotations = maps.Clone(pod.Annotations)
	pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(failures))
	if ignored > 0 {
		pod.Annotations[jobIndexIgnoredFailures] = strconv.Itoa(int(ignored))
	}
}

// counting tells whether a pod that the controller ends itself counts as failed.
type counting bool

const (
	counted   counting = true  // the Job is ending: every pod is accounted for
	uncounted counting = false // too many, or suspended: the pod never mattered
)

// deletePods ends pods. Uncounted ones lose their finalizer first, the others when they are counted.
func (s *round) deletePods(ctx context.Context, doomed []*corev1.Pod, count counting) error {
	var errs []error
	gone := map[string]bool{}
	for _, pod := range doomed {
		if count == uncounted && tracked(pod) {
			if err := s.free(ctx, s.key, pod); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		s.expected.ExpectDeletes(s.key, pod.UID)
		err := s.podAPI.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		switch {
		case err == nil:
			gone[pod.Name] = true
			s.terminating = append(s.terminating, pod)
			s.Events.Event(s.job, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
		case apierrors.IsNotFound(err):
			s.expected.Deleted(s.key, pod.UID)
		default:
			s.expected.Deleted(s.key, pod.UID)
			s.Events.Event(s.job, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			errs = append(errs, err)
		}
	}
	s.active = slices.DeleteFunc(s.active, func(p *corev1.Pod) bool { return gone[p.Name] })
	return errors.Join(errs...)
}
