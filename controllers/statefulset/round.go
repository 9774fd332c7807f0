// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package statefulset

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// round is one reconcile of one set.
//
//	condemned below │ wanted: start ... start+replicas-1 │ condemned above
//
// In order, one step at a time, it makes and mends the wanted pods from the lowest ordinal, then removes condemned ones from
// the highest, then replaces pods of an old template from the highest. With the Parallel policy the first two don't wait.
type round struct {
	*controller
	set *appsv1.StatefulSet
	key reconcile.Key
	now time.Time

	// all revisions, oldest first; current is where the roll-out comes from and update where it goes.
	all             []*appsv1.ControllerRevision
	current, update *appsv1.ControllerRevision
	currentTemplate *corev1.PodTemplateSpec

	// wanted pods by ordinal minus start; those not there yet have no UID. condemned come highest first.
	wanted, condemned []*corev1.Pod
	// firstBroken is the unavailable pod that may be removed though it blocks the others.
	firstBroken *corev1.Pod
	// deleted in this round for the roll-out.
	deleted map[types.UID]bool
}

// partition sorts the pods into wanted and condemned.
func (r *round) partition(owned []*corev1.Pod) {
	start := startOrdinal(r.set)
	r.deleted = map[types.UID]bool{}
	r.wanted = make([]*corev1.Pod, replicas(r.set))
	for _, pod := range owned {
		ordinal := ordinalOf(pod)
		switch {
		case ordinal < 0: // not one that can be placed
		case inRange(r.set, ordinal):
			r.wanted[ordinal-start] = pod
		default:
			r.condemned = append(r.condemned, pod)
		}
	}
	for i, pod := range r.wanted {
		if pod == nil {
			r.wanted[i] = r.missing(start + i)
		}
	}
	slices.SortFunc(r.condemned, func(a, b *corev1.Pod) int { return ordinalOf(b) - ordinalOf(a) })
	for _, pod := range slices.Concat(r.wanted, reversed(r.condemned)) {
		if r.unavailable(pod) {
			r.firstBroken = pod
			return
		}
	}
}

func reversed(all []*corev1.Pod) []*corev1.Pod {
	out := slices.Clone(all)
	slices.Reverse(out)
	return out
}

// missing makes the pod of an ordinal: of the old template below the partition, else of the new one.
func (r *round) missing(ordinal int) *corev1.Pod {
	strategy := r.set.Spec.UpdateStrategy
	start := startOrdinal(r.set)
	old := false
	if rolling := strategy.RollingUpdate; rolling != nil && rolling.Partition != nil {
		old = ordinal < start+int(*rolling.Partition)
	} else if strategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		old = ordinal < start+int(r.set.Status.CurrentReplicas)
	}
	if old {
		return newPod(r.set, r.currentTemplate, r.current.Name, ordinal)
	}
	return newPod(r.set, &r.set.Spec.Template, r.update.Name, ordinal)
}

func (r *round) unavailable(pod *corev1.Pod) bool {
	available, _ := pods.IsAvailable(pod, r.set.Spec.MinReadySeconds, r.now)
	return !available || pod.DeletionTimestamp != nil
}

// ordered reports whether each pod waits for the one before it.
func (r *round) ordered() bool { return r.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement }

// act takes the steps that are due.
func (r *round) act(ctx context.Context) error {
	if blocked, err := r.each(r.wanted, func(pod *corev1.Pod) (bool, error) { return r.tend(ctx, pod) }); blocked || err != nil {
		return err
	}
	if _, err := r.each(r.condemned, func(pod *corev1.Pod) (bool, error) { return false, r.ownClaims(ctx, pod) }); err != nil {
		return err
	}
	if blocked, err := r.each(r.condemned, func(pod *corev1.Pod) (bool, error) { return r.condemn(ctx, pod) }); blocked || err != nil {
		return err
	}
	if r.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return nil
	}
	return r.roll(ctx)
}

// each takes a step for each pod: in order until one blocks, or for all, in batches of 1, 2, 4, ... as long as none fails.
func (r *round) each(all []*corev1.Pod, step func(*corev1.Pod) (blocked bool, err error)) (bool, error) {
	if r.ordered() {
		for _, pod := range all {
			if blocked, err := step(pod); blocked || err != nil {
				return true, err
			}
		}
		return false, nil
	}
	for batch := 1; len(all) > 0; batch *= 2 {
		batch = min(batch, len(all))
		errs := make([]error, batch)
		var wg sync.WaitGroup
		for i, pod := range all[:batch] {
			wg.Go(func() { _, errs[i] = step(pod) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return true, err
		}
		all = all[batch:]
	}
	return false, nil
}

// tend makes or mends one wanted pod. It blocks the later ones until the pod is available.
func (r *round) tend(ctx context.Context, pod *corev1.Pod) (blocked bool, err error) {
	switch {
	case pods.IsFinished(pod):
		// It goes whatever its exit code was: an eviction may end in success too. Its successor comes once it is gone.
		if pod.DeletionTimestamp == nil {
			err = r.delete(ctx, pod)
		}
		return true, err
	case pod.UID == "":
		if r.staleClaim(pod) {
			return true, errors.New("claims of the pod before are not gone yet")
		}
		return true, r.create(ctx, pod)
	}
	if pod.Status.Phase == corev1.PodPending {
		if err := r.ensureClaims(ctx, pod); err != nil {
			return true, err
		}
	}
	if r.ordered() && (r.unavailable(pod) || !runs(pod)) {
		return true, nil
	}
	if err := r.ownClaims(ctx, pod); err != nil {
		return true, err
	}
	if hasIdentity(pod) {
		return false, nil
	}
	next := pod.DeepCopy()
	setIdentity(next)
	_, err = r.podAPI.Update(ctx, next)
	r.tell("Update", pod, err)
	return err != nil, err
}

// condemn removes one pod that is too much, unless it has to wait for others.
func (r *round) condemn(ctx context.Context, pod *corev1.Pod) (blocked bool, err error) {
	if pod.DeletionTimestamp != nil {
		return r.ordered(), nil
	}
	if r.ordered() && r.unavailable(pod) && pod != r.firstBroken {
		return true, nil
	}
	return true, r.delete(ctx, pod)
}

// roll replaces the highest pod of an old template, once those above it are available.
func (r *round) roll(ctx context.Context) error {
	lowest := 0
	if rolling := r.set.Spec.UpdateStrategy.RollingUpdate; rolling != nil && rolling.Partition != nil {
		lowest = int(*rolling.Partition)
	}
	for i := len(r.wanted) - 1; i >= lowest; i-- {
		pod := r.wanted[i]
		if pod.UID != "" && revisionOf(pod) != r.update.Name && pod.DeletionTimestamp == nil {
			r.deleted[pod.UID] = true
			return r.delete(ctx, pod)
		}
		if r.unavailable(pod) {
			return nil
		}
	}
	return nil
}

func (r *round) create(ctx context.Context, pod *corev1.Pod) error {
	if err := r.ensureClaims(ctx, pod); err != nil {
		r.tell("Create", pod, err)
		return err
	}
	r.expected.ExpectCreates(r.key, 1)
	_, err := r.podAPI.Create(ctx, pod)
	if err != nil {
		r.expected.Created(r.key)
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return err
		}
	}
	r.tell("Create", pod, err)
	if err != nil {
		return err
	}
	return r.ownClaims(ctx, pod)
}

func (r *round) delete(ctx context.Context, pod *corev1.Pod) error {
	r.expected.ExpectDeletes(r.key, pod.UID)
	err := r.podAPI.Delete(ctx, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if err != nil {
		r.expected.Deleted(r.key, pod.UID)
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = nil // gone already
	}
	r.tell("Delete", pod, err)
	return err
}

// tell records what was done to a pod.
func (r *round) tell(verb string, pod *corev1.Pod, err error) {
	if err != nil {
		r.Events.Event(r.set, corev1.EventTypeWarning, "Failed"+verb, "%s Pod %s in StatefulSet %s failed error: %s", verb, pod.Name, r.set.Name, err)
		return
	}
	r.Events.Event(r.set, corev1.EventTypeNormal, "Successful"+verb, "%s Pod %s in StatefulSet %s successful", verb, pod.Name, r.set.Name)
}
