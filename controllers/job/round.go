// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// round is one reconcile of one Job.
type round struct {
	*controller
	job    *batchv1.Job
	key    reconcile.Key
	before batchv1.JobStatus
	owned  []*corev1.Pod
	now    time.Time

	active, terminating []*corev1.Pod
	// succeeded and failed are tracked pods that have ended and are not counted in the status yet, the uncounted included.
	succeeded, failed []*corev1.Pod
	// completed and failedIndexes of an indexed Job, what is not counted yet included.
	completed, failedIndexes spans
	// successes and failures in total; ignored failures are not among them.
	successes, failures int
	// again is when time alone makes another look worthwhile; 0 means never.
	again time.Duration
}

// newRound begins with the pods that the view showed, and those that were released before it was read.
func newRound(c *controller, job *batchv1.Job, key reconcile.Key, owned []*corev1.Pod, released map[types.UID]struct{}) *round {
	s := &round{controller: c, job: job, key: key, before: *job.Status.DeepCopy(), owned: owned, now: time.Now()}
	for _, pod := range owned {
		switch {
		case pods.IsActive(pod):
			s.active = append(s.active, pod)
		case pods.IsTerminating(pod):
			s.terminating = append(s.terminating, pod)
		}
		if _, free := released[pod.UID]; free || !tracked(pod) {
			continue
		}
		switch {
		case pod.Status.Phase == corev1.PodSucceeded:
			s.succeeded = append(s.succeeded, pod)
		case podFailed(job, pod) || (isEnding(job) && pod.DeletionTimestamp != nil && pods.IsFinished(pod)):
			s.failed = append(s.failed, pod)
		}
	}
	s.settle()
	s.add()
	return s
}

// isEnding reports whether the Job's end is decided, so that its remaining pods are only cleared away.
func isEnding(job *batchv1.Job) bool {
	return isTrue(job, batchv1.JobFailureTarget) || isTrue(job, batchv1.JobSuccessCriteriaMet) || finished(job)
}

// settle counts uncounted pods that have lost their finalizer: the second half of the protocol, perhaps of an earlier run.
func (s *round) settle() {
	u := s.job.Status.UncountedTerminatedPods
	if u == nil {
		u = &batchv1.UncountedTerminatedPods{}
		s.job.Status.UncountedTerminatedPods = u
	}
	still := map[types.UID]bool{}
	for _, pod := range slices.Concat(s.succeeded, s.failed) {
		still[pod.UID] = true
	}
	keep := func(list []types.UID, count *int32) []types.UID {
		var kept []types.UID
		for _, uid := range list {
			if still[uid] {
				kept = append(kept, uid)
			} else {
				*count++
			}
		}
		return kept
	}
	if indexed(s.job) {
		var unused int32
		u.Succeeded = keep(u.Succeeded, &unused) // indexes are counted, not pods
	} else {
		u.Succeeded = keep(u.Succeeded, &s.job.Status.Succeeded)
	}
	u.Failed = keep(u.Failed, &s.job.Status.Failed)
}

// add sums up what has happened so far.
func (s *round) add() {
	status := &s.job.Status
	s.failures = int(status.Failed)
	for _, pod := range s.failed {
		if v := judge(s.job.Spec.PodFailurePolicy, pod); v.action != batchv1.PodFailurePolicyActionIgnore {
			s.failures++
		}
	}
	if !indexed(s.job) {
		s.successes = int(status.Succeeded) + len(s.succeeded)
		return
	}
	limit := s.completions()
	var done []int
	for _, pod := range s.succeeded {
		if i := indexOf(pod); i >= 0 && i < limit {
			done = append(done, i)
		}
	}
	s.completed = parseSpans(status.CompletedIndexes, limit).with(done)
	s.successes = s.completed.count()
	if s.job.Spec.BackoffLimitPerIndex == nil {
		return
	}
	if status.FailedIndexes != nil {
		s.failedIndexes = parseSpans(*status.FailedIndexes, limit)
	}
	var lost []int
	for _, pod := range s.failed {
		if i := indexOf(pod); i >= 0 && i < limit && s.indexIsLost(pod) {
			lost = append(lost, i)
		}
	}
	s.failedIndexes = s.failedIndexes.with(lost)
}

// indexIsLost reports whether a pod's failure is the one too many of its index.
func (s *round) indexIsLost(pod *corev1.Pod) bool {
	switch judge(s.job.Spec.PodFailurePolicy, pod).action {
	case batchv1.PodFailurePolicyActionFailIndex:
		return true
	case batchv1.PodFailurePolicyActionIgnore:
		return false
	default:
		return indexFailures(pod) >= *s.job.Spec.BackoffLimitPerIndex
	}
}

func (s *round) completions() int {
	if s.job.Spec.Completions == nil {
		return 0
	}
	return int(*s.job.Spec.Completions)
}

func (s *round) suspended() bool { return s.job.Spec.Suspend != nil && *s.job.Spec.Suspend }

func (s *round) run(ctx context.Context) error {
	if s.job.Status.StartTime == nil && !s.suspended() {
		start := metav1.NewTime(s.now)
		s.job.Status.StartTime = &start
	}
	act := s.expected.Fulfilled(s.key) && s.job.DeletionTimestamp == nil
	var errs []error
	s.decide()
	switch {
	case !act:
	case isEnding(s.job):
		errs = append(errs, s.deletePods(ctx, s.active, counted))
	case s.suspended():
		errs = append(errs, s.deletePods(ctx, s.active, uncounted))
		if setCondition(s.job, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
			s.Events.Event(s.job, corev1.EventTypeNormal, "Suspended", "Job suspended")
		}
		s.job.Status.StartTime = nil
	default:
		if c := condition(s.job, batchv1.JobSuspended); c != nil && c.Status == corev1.ConditionTrue {
			setCondition(s.job, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
			s.Events.Event(s.job, corev1.EventTypeNormal, "Resumed", "Job resumed")
			start := metav1.NewTime(s.now)
			s.job.Status.StartTime = &start
		}
		errs = append(errs, s.manage(ctx))
	}
	errs = append(errs, s.count(ctx))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if s.again > 0 {
		return reconcile.After(s.again)
	}
	return nil
}

// decide sets FailureTarget or SuccessCriteriaMet when the Job's end is certain.
func (s *round) decide() {
	if isEnding(s.job) {
		return
	}
	fail := func(reason, message string) {
		setCondition(s.job, batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message)
	}
	if s.job.Spec.PodFailurePolicy != nil {
		for _, pod := range s.failed {
			if v := judge(s.job.Spec.PodFailurePolicy, pod); v.action == batchv1.PodFailurePolicyActionFailJob {
				fail(batchv1.JobReasonPodFailurePolicy, v.why)
				return
			}
		}
	}
	if s.pastDeadline() {
		fail(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		return
	}
	if s.backoffExceeded() {
		fail(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
		return
	}
	if limit := s.job.Spec.MaxFailedIndexes; limit != nil && s.failedIndexes.count() > int(*limit) {
		fail(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		return
	}
	if rule, ok := successRule(s.job.Spec.SuccessPolicy, s.completed, s.completions()); ok {
		setCondition(s.job, batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, batchv1.JobReasonSuccessPolicy,
			fmt.Sprintf("Matched rules at index %d", rule))
		return
	}
	if s.job.Spec.BackoffLimitPerIndex != nil && s.failedIndexes.count() > 0 && s.successes+s.failedIndexes.count() >= s.completions() {
		fail(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		return
	}
	if s.enough() && !s.suspended() {
		setCondition(s.job, batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, batchv1.JobReasonCompletionsReached,
			"Reached expected number of succeeded pods")
	}
}

// enough reports whether the wanted successes are there.
func (s *round) enough() bool {
	if s.job.Spec.Completions == nil {
		return s.successes > 0 && len(s.active) == 0 && len(s.terminating) == 0
	}
	return s.successes >= s.completions()
}

func (s *round) pastDeadline() bool {
	if s.job.Spec.ActiveDeadlineSeconds == nil || s.job.Status.StartTime == nil || s.suspended() {
		return false
	}
	left := s.job.Status.StartTime.Add(time.Duration(*s.job.Spec.ActiveDeadlineSeconds) * time.Second).Sub(s.now)
	s.wake(left)
	return left <= 0
}

// wake asks for another look in d, unless an earlier one is asked for.
func (s *round) wake(d time.Duration) {
	if d > 0 && (s.again == 0 || d < s.again) {
		s.again = d
	}
}

// backoffExceeded counts failed pods and, for pods that restart their containers themselves, those restarts.
func (s *round) backoffExceeded() bool {
	if s.job.Spec.BackoffLimit == nil {
		return false
	}
	limit := int(*s.job.Spec.BackoffLimit)
	if s.failures > limit {
		return true
	}
	if s.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	restarts := 0
	for _, pod := range s.active {
		for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			restarts += int(c.RestartCount)
		}
	}
	if limit == 0 {
		return restarts > 0
	}
	return restarts >= limit
}

// count carries the finished pods into the status, by the protocol of the package comment, and writes the status.
func (s *round) count(ctx context.Context) error {
	status := &s.job.Status
	s.summarise()
	u := status.UncountedTerminatedPods
	known := map[types.UID]bool{}
	for _, uid := range slices.Concat(u.Succeeded, u.Failed) {
		known[uid] = true
	}
	var release []*corev1.Pod
	for _, pod := range s.succeeded {
		if !known[pod.UID] && !indexed(s.job) {
			u.Succeeded = append(u.Succeeded, pod.UID)
		}
		release = append(release, pod)
	}
	for _, pod := range s.failed {
		if judge(s.job.Spec.PodFailurePolicy, pod).action != batchv1.PodFailurePolicyActionIgnore && !known[pod.UID] {
			u.Failed = append(u.Failed, pod.UID)
		}
		release = append(release, pod)
	}
	if indexed(s.job) {
		status.CompletedIndexes = s.completed.String()
		status.Succeeded = int32(s.completed.count())
		if s.job.Spec.BackoffLimitPerIndex != nil {
			text := s.failedIndexes.String()
			status.FailedIndexes = &text
		}
	}
	if err := s.write(ctx); err != nil {
		return err
	}
	var errs []error
	for _, pod := range release {
		errs = append(errs, s.free(ctx, s.key, pod))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.succeeded, s.failed = nil, nil
	s.settle()
	s.finish()
	return s.write(ctx)
}

// summarise sets the counts of pods that live.
func (s *round) summarise() {
	status := &s.job.Status
	status.Active = int32(len(s.active))
	ready, terminating := int32(0), int32(len(s.terminating))
	for _, pod := range s.active {
		if pods.IsReady(pod) {
			ready++
		}
	}
	status.Ready, status.Terminating = &ready, &terminating
}

// finish sets the final condition once nothing is left to count or to end.
func (s *round) finish() {
	if finished(s.job) || len(s.active) > 0 || len(s.terminating) > 0 || hasUncounted(s.job) {
		return
	}
	now := metav1.NewTime(s.now)
	if c := condition(s.job, batchv1.JobFailureTarget); c != nil && c.Status == corev1.ConditionTrue {
		setCondition(s.job, batchv1.JobFailed, corev1.ConditionTrue, c.Reason, c.Message)
		s.Events.Event(s.job, corev1.EventTypeWarning, c.Reason, "%s", c.Message)
		return
	}
	if c := condition(s.job, batchv1.JobSuccessCriteriaMet); c != nil && c.Status == corev1.ConditionTrue {
		setCondition(s.job, batchv1.JobComplete, corev1.ConditionTrue, c.Reason, c.Message)
		s.job.Status.CompletionTime = &now
		s.Events.Event(s.job, corev1.EventTypeNormal, "Completed", "Job completed")
	}
}

// write stores the status if it changed since the last write.
func (s *round) write(ctx context.Context) error {
	if equal.Semantic(s.before, s.job.Status) {
		return nil
	}
	updated, err := s.api.UpdateStatus(ctx, s.job)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	s.noteWritten(updated)
	s.job = updated.DeepCopy()
	if s.job.Status.UncountedTerminatedPods == nil {
		s.job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	s.before = *s.job.Status.DeepCopy()
	return nil
}
