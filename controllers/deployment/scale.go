// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"context"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// bounds resolves maxSurge (rounded up) and maxUnavailable (rounded down) for the wanted replicas; both 0 means one
// unavailable, or nothing could ever move.
func (r *rollout) bounds() (surge, unavailable int32) {
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || r.d.Spec.Strategy.RollingUpdate == nil {
		return 0, 0
	}
	update, replicas := r.d.Spec.Strategy.RollingUpdate, int(*r.d.Spec.Replicas)
	resolve := func(v *intstr.IntOrString, up bool) int32 {
		if v == nil {
			return 0
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, replicas, up)
		if err != nil {
			return 0
		}
		return int32(n)
	}
	surge, unavailable = resolve(update.MaxSurge, true), resolve(update.MaxUnavailable, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, *r.d.Spec.Replicas)
}

func (r *rollout) maxSurge() int32 { surge, _ := r.bounds(); return surge }

func sumSpec(sets []*appsv1.ReplicaSet) int32 {
	total := int32(0)
	for _, rs := range sets {
		total += *rs.Spec.Replicas
	}
	return total
}

func sumAvailable(sets []*appsv1.ReplicaSet) int32 {
	total := int32(0)
	for _, rs := range sets {
		total += rs.Status.AvailableReplicas
	}
	return total
}

// newestTarget is how many replicas the newest ReplicaSet may have now.
func (r *rollout) newestTarget(newest *appsv1.ReplicaSet) int32 {
	want := *r.d.Spec.Replicas
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return want
	}
	have := int32(0)
	if newest.Spec.Replicas != nil {
		have = *newest.Spec.Replicas
	}
	room := want + r.maxSurge() - sumSpec(r.old) - have
	if room <= 0 {
		return have
	}
	return have + min(room, want-have)
}

// growNewest scales the newest ReplicaSet as far as the surge allows (or down to the wanted number).
func (r *rollout) growNewest(ctx context.Context) (bool, error) {
	have, want := *r.newest.Spec.Replicas, *r.d.Spec.Replicas
	switch {
	case have == want:
		return false, nil
	case have > want:
		return true, r.resize(ctx, r.newest, want)
	}
	target := r.newestTarget(r.newest)
	return target != have, r.resize(ctx, r.newest, target)
}

// shrinkOld scales old ReplicaSets down as far as availability allows: pods that are not healthy go first.
func (r *rollout) shrinkOld(ctx context.Context) (bool, error) {
	oldCount := sumSpec(r.old)
	if oldCount == 0 {
		return false, nil
	}
	_, unavailable := r.bounds()
	minimum := *r.d.Spec.Replicas - unavailable
	newUnavailable := *r.newest.Spec.Replicas - r.newest.Status.AvailableReplicas
	spare := sumSpec(r.all()) - minimum - newUnavailable
	if spare <= 0 {
		return false, nil
	}
	down := int32(0)
	for _, rs := range r.old { // unhealthy ones, oldest first
		unhealthy := *rs.Spec.Replicas - rs.Status.AvailableReplicas
		step := min(spare-down, unhealthy)
		if *rs.Spec.Replicas == 0 || step <= 0 {
			continue
		}
		if err := r.resize(ctx, rs, *rs.Spec.Replicas-step); err != nil {
			return down > 0, err
		}
		down += step
	}
	extra := sumAvailable(r.all()) - minimum
	for _, rs := range r.old {
		step := min(extra, *rs.Spec.Replicas)
		if step <= 0 {
			continue
		}
		if err := r.resize(ctx, rs, *rs.Spec.Replicas-step); err != nil {
			return down > 0, err
		}
		extra -= step
		down += step
	}
	return down > 0, nil
}

// scale spreads a changed spec.replicas: onto the only active ReplicaSet, onto a saturated newest one, or over all in
// proportion while a rollout is under way.
func (r *rollout) scale(ctx context.Context) error {
	if only := r.activeOrLatest(); only != nil {
		if *only.Spec.Replicas == *r.d.Spec.Replicas {
			return r.rewriteReplicaAnnotations(ctx, only)
		}
		return r.resize(ctx, only, *r.d.Spec.Replicas)
	}
	if r.newest != nil && r.saturated() {
		for _, rs := range r.old {
			if err := r.resize(ctx, rs, 0); err != nil {
				return err
			}
		}
		return nil
	}
	if r.d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return nil
	}
	return r.scaleProportionally(ctx)
}

// activeOrLatest returns the only ReplicaSet with replicas, or the newest when none has any, or nil when several have.
func (r *rollout) activeOrLatest() *appsv1.ReplicaSet {
	var active []*appsv1.ReplicaSet
	for _, rs := range r.all() {
		if *rs.Spec.Replicas > 0 {
			active = append(active, rs)
		}
	}
	switch {
	case len(active) == 1:
		return active[0]
	case len(active) > 1:
		return nil
	case r.newest != nil:
		return r.newest
	case len(r.old) > 0:
		return r.old[len(r.old)-1]
	}
	return nil
}

// saturated reports whether the newest ReplicaSet serves everything that is wanted.
func (r *rollout) saturated() bool {
	want := *r.d.Spec.Replicas
	desired, _ := annotatedReplicas(r.newest, desiredAnnotation)
	return *r.newest.Spec.Replicas == want && desired == want && r.newest.Status.AvailableReplicas == want
}

// scaleProportionally divides the difference between the allowed and the present total by each ReplicaSet's share, bigger
// ones first; what rounding leaves goes to the first.
func (r *rollout) scaleProportionally(ctx context.Context) error {
	sets := r.all()
	total := sumSpec(sets)
	allowed := int32(0)
	if *r.d.Spec.Replicas > 0 {
		allowed = *r.d.Spec.Replicas + r.maxSurge()
	}
	add := allowed - total
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if c := int(*b.Spec.Replicas) - int(*a.Spec.Replicas); c != 0 {
			return c
		}
		if add > 0 {
			return byAge(b, a) // growing: newer first
		}
		return byAge(a, b)
	})
	targets := make([]int32, len(sets))
	added := int32(0)
	for i, rs := range sets {
		targets[i] = *rs.Spec.Replicas
		if *rs.Spec.Replicas == 0 || add == 0 {
			continue
		}
		share := r.share(rs, add, added)
		targets[i] += share
		added += share
	}
	for i, rs := range sets {
		if i == 0 && add != 0 {
			targets[i] = max(0, targets[i]+add-added)
		}
		if err := r.resize(ctx, rs, targets[i]); err != nil {
			return err
		}
	}
	return nil
}

// share is a ReplicaSet's part of add, never more than what is left of it.
func (r *rollout) share(rs *appsv1.ReplicaSet, add, added int32) int32 {
	have := *rs.Spec.Replicas
	part := -have
	if *r.d.Spec.Replicas > 0 {
		maximum, ok := annotatedReplicas(rs, maxAnnotation)
		if !ok || maximum == 0 {
			maximum = max(r.d.Status.Replicas, 1)
		}
		size := float64(have) * float64(*r.d.Spec.Replicas+r.maxSurge()) / float64(maximum)
		part = int32(size+0.5) - have
	}
	if add > 0 {
		return min(part, add-added)
	}
	return max(part, add-added)
}

// resize sets a ReplicaSet's replicas, with the annotations that belong to them, and tells it in an Event.
func (r *rollout) resize(ctx context.Context, rs *appsv1.ReplicaSet, replicas int32) error {
	if rs == nil {
		return nil
	}
	from := *rs.Spec.Replicas
	if from == replicas {
		return r.rewriteReplicaAnnotations(ctx, rs)
	}
	next := rs.DeepCopy()
	*next.Spec.Replicas = replicas
	r.annotate(next, revisionOf(next))
	r.annotateReplicas(next)
	updated, err := r.setAPI.Update(ctx, next)
	if err != nil {
		return err
	}
	*rs = *updated.DeepCopy()
	direction := "up"
	if replicas < from {
		direction = "down"
	}
	r.Events.Event(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, rs.Name, from, replicas)
	return nil
}

// rewriteReplicaAnnotations keeps them right where the number itself is.
func (r *rollout) rewriteReplicaAnnotations(ctx context.Context, rs *appsv1.ReplicaSet) error {
	desired, hasDesired := annotatedReplicas(rs, desiredAnnotation)
	maximum, hasMax := annotatedReplicas(rs, maxAnnotation)
	if hasDesired && hasMax && desired == *r.d.Spec.Replicas && maximum == *r.d.Spec.Replicas+r.maxSurge() {
		return nil
	}
	next := rs.DeepCopy()
	r.annotate(next, revisionOf(next))
	r.annotateReplicas(next)
	updated, err := r.setAPI.Update(ctx, next)
	if err != nil {
		return err
	}
	*rs = *updated.DeepCopy()
	return nil
}

// untilDeadline returns how long the rollout may still take without progress.
func (r *rollout) untilDeadline(s *appsv1.DeploymentStatus) (time.Duration, bool) {
	c := condition(s.Conditions, appsv1.DeploymentProgressing)
	if r.d.Spec.ProgressDeadlineSeconds == nil || c == nil || r.d.Spec.Paused || r.d.DeletionTimestamp != nil {
		return 0, false
	}
	if complete(r.d, s) || c.Reason == timedOutReason || c.Reason == availableReason {
		return 0, false
	}
	left := time.Until(c.LastUpdateTime.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second))
	return max(left, 0), true
}

// terminating counts the pods of all ReplicaSets that are being deleted.
func (r *rollout) terminating() int32 {
	n := int32(0)
	for _, rs := range r.all() {
		for _, pod := range reconcile.Controlled(r.pods, rs) {
			if pods.IsTerminating(pod) {
				n++
			}
		}
	}
	return n
}
