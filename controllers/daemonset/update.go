// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/history"
	"kogge.dev/kogge/rules/pods"
)

// revise finds or makes the revision of the current template.
func (r *run) revise(ctx context.Context) error {
	selector, err := metav1.LabelSelectorAsSelector(r.ds.Spec.Selector)
	if err != nil {
		return err
	}
	claim := reconcile.Claim[*appsv1.ControllerRevision]{
		Owner: r.ds, Kind: kind, Selector: selector, Objects: r.history,
		Fresh: func(ctx context.Context) (kinds.Object, error) { return r.api.Get(ctx, r.key.Namespace, r.key.Name) },
	}
	all, err := claim.All(ctx, reconcile.OwnedBy(r.revisions, r.ds))
	if err != nil {
		return err
	}
	history.Sort(all)
	want, err := history.Revision(r.ds, kind, &r.ds.Spec.Template, history.Next(all), r.ds.Status.CollisionCount)
	if err != nil {
		return reconcile.Terminal(err)
	}
	want.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = history.HashOf(want)
	var same []*appsv1.ControllerRevision
	for _, rev := range all {
		if history.Equal(rev, want) {
			same = append(same, rev)
		} else {
			r.old = append(r.old, rev)
		}
	}
	if len(same) == 0 {
		return r.createRevision(ctx, want)
	}
	r.current = same[len(same)-1]
	r.hash = r.current.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	if err := r.merge(ctx, same[:len(same)-1]); err != nil {
		return err
	}
	if number := history.Next(r.old); len(r.old) > 0 && r.current.Revision < number {
		next := r.current.DeepCopy()
		next.Revision = number
		_, err := r.history.Update(ctx, next)
		return err
	}
	return nil
}

// merge removes older revisions of the current template, which others made. Their pods go over to the current one first, and
// are seen to have done so, since a pod of another revision would be replaced.
func (r *run) merge(ctx context.Context, doubles []*appsv1.ControllerRevision) error {
	const label = appsv1.DefaultDaemonSetUniqueLabelKey
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{label: r.hash}}})
	if err != nil {
		return err
	}
	moved := false
	for _, pod := range reconcile.Controlled(r.pods, r.ds) {
		of := func(double *appsv1.ControllerRevision) bool { return pod.Labels[label] == double.Labels[label] }
		if pod.Labels[label] == r.hash || !slices.ContainsFunc(doubles, of) {
			continue
		}
		if _, err := r.podAPI.Patch(ctx, pod.Namespace, pod.Name, types.MergePatchType, patch); client.IgnoreNotFound(err) != nil {
			return err
		}
		moved = true
	}
	if moved {
		return reconcile.After(time.Second) // or when the pods are seen
	}
	for _, double := range doubles {
		if err := r.history.Delete(ctx, double.Namespace, double.Name, metav1.DeleteOptions{}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

func (r *run) createRevision(ctx context.Context, want *appsv1.ControllerRevision) error {
	created, err := r.history.Create(ctx, want)
	if apierrors.IsAlreadyExists(err) {
		taken, getErr := r.history.Get(ctx, want.Namespace, want.Name)
		if getErr != nil {
			return getErr
		}
		if history.Equal(taken, want) && metav1.IsControlledBy(taken, r.ds) {
			r.current, r.hash = taken, taken.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
			return nil
		}
		next := r.ds.DeepCopy()
		if next.Status.CollisionCount == nil {
			next.Status.CollisionCount = new(int32)
		}
		*next.Status.CollisionCount++
		if _, updateErr := r.api.UpdateStatus(ctx, next); updateErr != nil {
			return updateErr
		}
		return err // again under the next hash
	}
	if err != nil {
		return err
	}
	r.current, r.hash = created, history.HashOf(want)
	return nil
}

// truncate removes revisions beyond the limit that no pod uses any more.
func (r *run) truncate(ctx context.Context) error {
	limit := 10
	if r.ds.Spec.RevisionHistoryLimit != nil {
		limit = int(*r.ds.Spec.RevisionHistoryLimit)
	}
	used := map[string]bool{}
	for _, list := range r.byNode {
		for _, pod := range list {
			used[pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
		}
	}
	over := len(r.old) - limit
	for _, rev := range r.old {
		if over <= 0 {
			return nil
		}
		if used[rev.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] {
			continue
		}
		if err := r.history.Delete(ctx, rev.Namespace, rev.Name, metav1.DeleteOptions{}); client.IgnoreNotFound(err) != nil {
			return err
		}
		over--
	}
	return nil
}

// surge and unavailable resolve the rolling update's bounds for n nodes, both rounded up.
func surge(ds *appsv1.DaemonSet, n int) int {
	if ds.Spec.UpdateStrategy.RollingUpdate == nil || ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge == nil {
		return 0
	}
	v, err := intstr.GetScaledValueFromIntOrPercent(ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge, n, true)
	if err != nil {
		return 0
	}
	return v
}

func unavailable(ds *appsv1.DaemonSet, n int) int {
	if ds.Spec.UpdateStrategy.RollingUpdate == nil || ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable == nil {
		return 1
	}
	v, err := intstr.GetScaledValueFromIntOrPercent(ds.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, n, true)
	if err != nil {
		return 1
	}
	return v
}

// roll takes one step of a rolling update.
func (r *run) roll(ctx context.Context) error {
	var wanted []string
	for node := range r.nodes.All() {
		if run, _ := fits(r.ds, node); run {
			wanted = append(wanted, node.Name)
		}
	}
	slices.Sort(wanted)
	if most := surge(r.ds, len(wanted)); most > 0 {
		return r.rollWithSurge(ctx, wanted, most)
	}
	most := max(1, unavailable(r.ds, len(wanted)))
	down := 0
	var first, others []*corev1.Pod // old pods that serve nobody go first and cost nothing
	for _, node := range wanted {
		newest, old := r.split(node)
		switch {
		case old == nil && newest == nil:
			down++
		case newest != nil:
			if ok, _ := pods.IsAvailable(newest, r.ds.Spec.MinReadySeconds, time.Now()); !ok {
				down++
			}
		case old.DeletionTimestamp != nil:
			down++
		default:
			if ok, _ := pods.IsAvailable(old, r.ds.Spec.MinReadySeconds, time.Now()); ok {
				others = append(others, old)
			} else {
				first = append(first, old)
				down++
			}
		}
	}
	room := max(0, most-down)
	return r.delete(ctx, append(first, others[:min(room, len(others))]...))
}

// split returns a node's pod of the current and of an older template.
func (r *run) split(node string) (newest, old *corev1.Pod) {
	for _, pod := range r.byNode[node] {
		switch {
		case r.isCurrent(pod) && pod.DeletionTimestamp == nil:
			newest = pod
		case !r.isCurrent(pod):
			old = pod
		}
	}
	return newest, old
}

// rollWithSurge starts new pods beside old ones; manage removes an old one once its successor is available.
func (r *run) rollWithSurge(ctx context.Context, wanted []string, most int) error {
	var create []string
	var idle []*corev1.Pod
	surging := 0
	for _, node := range wanted {
		newest, old := r.split(node)
		switch {
		case old == nil || old.DeletionTimestamp != nil:
		case newest != nil:
			surging++
		default:
			if ok, _ := pods.IsAvailable(old, r.ds.Spec.MinReadySeconds, time.Now()); !ok {
				idle = append(idle, old)
				continue
			}
			create = append(create, node)
		}
	}
	room := max(0, most-surging)
	return errors.Join(r.delete(ctx, idle), r.create(ctx, create[:min(room, len(create))]))
}

// report writes the status, and returns after how long a ready pod becomes available.
func (r *run) report(ctx context.Context) (time.Duration, error) {
	next := r.ds.DeepCopy()
	s := &next.Status
	*s = appsv1.DaemonSetStatus{ObservedGeneration: r.ds.Generation, CollisionCount: r.ds.Status.CollisionCount, Conditions: r.ds.Status.Conditions}
	now := time.Now()
	var soonest time.Duration
	for node := range r.nodes.All() {
		run, _ := fits(r.ds, node)
		present := slices.Clone(r.byNode[node.Name])
		if !run {
			if len(present) > 0 {
				s.NumberMisscheduled++
			}
			continue
		}
		s.DesiredNumberScheduled++
		if len(present) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		slices.SortFunc(present, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
		ready, available, updated := false, false, false
		for _, pod := range present {
			if pod.DeletionTimestamp != nil {
				continue
			}
			ready = ready || pods.IsReady(pod)
			ok, wait := pods.IsAvailable(pod, r.ds.Spec.MinReadySeconds, now)
			available = available || ok
			updated = updated || r.isCurrent(pod)
			if wait > 0 && (soonest == 0 || wait < soonest) {
				soonest = wait
			}
		}
		s.NumberReady += one(ready)
		s.NumberAvailable += one(available)
		s.UpdatedNumberScheduled += one(updated)
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	if equal.Semantic(r.ds.Status, *s) {
		return soonest, nil
	}
	if _, err := r.api.UpdateStatus(ctx, next); client.IgnoreNotFound(err) != nil {
		return soonest, fmt.Errorf("status of %s: %w", r.key, err)
	}
	return soonest, nil
}

func one(b bool) int32 {
	if b {
		return 1
	}
	return 0
}
