// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package statefulset

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/history"
)

// revise finds the revision that a roll-out started from, and finds or makes the one of the template as it is.
func (r *round) revise(ctx context.Context, selector labels.Selector, fresh func(context.Context) (kinds.Object, error)) error {
	claim := reconcile.Claim[*appsv1.ControllerRevision]{
		Owner: r.set, Kind: kind, Selector: selector, Objects: r.history, Fresh: fresh,
	}
	var err error
	if r.all, err = claim.All(ctx, reconcile.OwnedBy(r.revisions, r.set)); err != nil {
		return err
	}
	if err := r.addCurrent(ctx); err != nil {
		return err
	}
	history.Sort(r.all)
	collisions := r.set.Status.CollisionCount
	if collisions == nil {
		collisions = new(int32) // as the first status has it: the name must not change with that
	}
	want, err := history.Revision(r.set, kind, &r.set.Spec.Template, history.Next(r.all), collisions)
	if err != nil {
		return reconcile.Terminal(err)
	}
	for _, rev := range r.all {
		if history.Equal(rev, want) {
			r.update = rev // the latest of several
		}
		if rev.Name == r.set.Status.CurrentRevision {
			r.current = rev
		}
	}
	switch {
	case r.update == nil:
		err = r.createRevision(ctx, want)
	case r.update != r.all[len(r.all)-1]:
		// A roll-back: an old revision becomes the newest.
		next := r.update.DeepCopy()
		next.Revision = want.Revision
		r.update, err = r.history.Update(ctx, next)
	}
	if err != nil {
		return err
	}
	if r.current == nil {
		r.current = r.update
	}
	if r.currentTemplate, err = history.Template(r.current); err != nil {
		return reconcile.Terminal(err)
	}
	return nil
}

// addCurrent adds the revision that a roll-out started from, should the view not show it yet.
func (r *round) addCurrent(ctx context.Context) error {
	name := r.set.Status.CurrentRevision
	if name == "" || slices.ContainsFunc(r.all, func(rev *appsv1.ControllerRevision) bool { return rev.Name == name }) {
		return nil
	}
	current, err := r.history.Get(ctx, r.set.Namespace, name)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if metav1.IsControlledBy(current, r.set) {
		r.all = append(r.all, current)
	}
	return nil
}

func (r *round) createRevision(ctx context.Context, want *appsv1.ControllerRevision) error {
	created, err := r.history.Create(ctx, want)
	if err == nil {
		r.update = created
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("revision of %s: %w", r.key, err)
	}
	taken, getErr := r.history.Get(ctx, want.Namespace, want.Name)
	if getErr != nil {
		return getErr
	}
	if history.Equal(taken, want) && metav1.IsControlledBy(taken, r.set) {
		r.update = taken
		return nil
	}
	next := r.set.DeepCopy()
	if next.Status.CollisionCount == nil {
		next.Status.CollisionCount = new(int32)
	}
	*next.Status.CollisionCount++
	if _, updateErr := r.api.UpdateStatus(ctx, next); updateErr != nil {
		return updateErr
	}
	return err // again under the next hash
}

// truncate removes the oldest revisions beyond the limit that nothing uses.
func (r *round) truncate(ctx context.Context, owned []*corev1.Pod) error {
	if r.set.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	used := map[string]bool{r.current.Name: true, r.update.Name: true}
	for _, pod := range owned {
		used[revisionOf(pod)] = true
	}
	var past []*appsv1.ControllerRevision
	for _, rev := range r.all {
		if !used[rev.Name] {
			past = append(past, rev)
		}
	}
	for _, rev := range past[:max(0, len(past)-int(*r.set.Spec.RevisionHistoryLimit))] {
		if err := r.history.Delete(ctx, rev.Namespace, rev.Name, metav1.DeleteOptions{}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
