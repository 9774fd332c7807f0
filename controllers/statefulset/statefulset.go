// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package statefulset runs the numbered pods of a StatefulSet: each with a name, a network identity and volumes of its own
// that outlive it, made and removed in order, and brought to a new template one after the other.
package statefulset

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// The kinds that own pods and claims.
var (
	kind    = appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	podKind = corev1.SchemeGroupVersion.WithKind("Pod")
)

type controller struct {
	reconcile.Scope
	loop      *reconcile.Loop
	sets      *client.Informer[*appsv1.StatefulSet]
	pods      *client.Informer[*corev1.Pod]
	claims    *client.Informer[*corev1.PersistentVolumeClaim]
	revisions *client.Informer[*appsv1.ControllerRevision]
	api       client.Resource[*appsv1.StatefulSet]
	podAPI    client.Resource[*corev1.Pod]
	claimAPI  client.Resource[*corev1.PersistentVolumeClaim]
	history   client.Resource[*appsv1.ControllerRevision]
	expected  reconcile.Expectations
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope,
		sets:  client.InformerFor[*appsv1.StatefulSet](scope.Informers), pods: client.InformerFor[*corev1.Pod](scope.Informers),
		claims:    client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers),
		revisions: client.InformerFor[*appsv1.ControllerRevision](scope.Informers),
		api:       client.Of[*appsv1.StatefulSet](scope.Client), podAPI: client.Of[*corev1.Pod](scope.Client),
		claimAPI: client.Of[*corev1.PersistentVolumeClaim](scope.Client), history: client.Of[*appsv1.ControllerRevision](scope.Client),
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: "statefulset-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.IndexControllers(c.pods)
	reconcile.IndexControllers(c.revisions)
	reconcile.Self(c.loop, c.sets)
	reconcile.Owner(c.loop, c.revisions, kind.Kind)
	reconcile.On(c.loop, c.claims, c.usersOf)
	reconcile.Dependents(c.loop, c.pods, &c.expected, kind.Kind, c.adopters)
	return c.loop
}

// adopters returns the StatefulSets that a pod without a controller may belong to.
func (c *controller) adopters(pod *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for _, set := range c.sets.List(pod.Namespace) {
		s, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
		if err == nil && memberOf(set, pod) && s.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.KeyOf(set))
		}
	}
	return keys
}

// usersOf returns the StatefulSets whose pods use a claim, by its name.
func (c *controller) usersOf(claim *corev1.PersistentVolumeClaim) []reconcile.Key {
	var keys []reconcile.Key
	for _, set := range c.sets.List(claim.Namespace) {
		if isClaimOf(set, claim.Name) {
			keys = append(keys, reconcile.KeyOf(set))
		}
	}
	return keys
}

// reconcile takes the steps that are due for one set, and reports.
func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	set, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		c.expected.Forget(key)
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return reconcile.Terminal(fmt.Errorf("selector of %s: %w", key, err))
	}
	if !c.expected.Fulfilled(key) {
		return nil // the view lags behind what was done last; it wakes the loop
	}
	fresh := func(ctx context.Context) (kinds.Object, error) { return c.api.Get(ctx, key.Namespace, key.Name) }
	claim := reconcile.Claim[*corev1.Pod]{
		Owner: set, Kind: kind, Selector: selector, Objects: c.podAPI, Fresh: fresh,
		Adoptable: func(pod *corev1.Pod) bool { return memberOf(set, pod) },
	}
	owned, err := claim.All(ctx, reconcile.OwnedBy(c.pods, set))
	if err != nil {
		return err
	}
	r := &round{controller: c, set: set, key: key, now: time.Now()}
	if err := r.revise(ctx, selector, fresh); err != nil {
		return err
	}
	r.partition(owned)
	var actErr error
	if set.DeletionTimestamp == nil {
		actErr = r.act(ctx)
	}
	reportErr := r.report(ctx, owned)
	if err := errors.Join(actErr, reportErr, r.truncate(ctx, owned)); err != nil {
		return err
	}
	return r.again(owned)
}

// report writes the status.
func (r *round) report(ctx context.Context, owned []*corev1.Pod) error {
	next := r.set.DeepCopy()
	s := &next.Status
	*s = appsv1.StatefulSetStatus{
		ObservedGeneration: r.set.Generation, CollisionCount: r.set.Status.CollisionCount, Conditions: r.set.Status.Conditions,
		CurrentRevision: r.current.Name, UpdateRevision: r.update.Name,
	}
	if s.CollisionCount == nil {
		s.CollisionCount = new(int32)
	}
	for _, pod := range owned {
		s.Replicas++
		available, _ := pods.IsAvailable(pod, r.set.Spec.MinReadySeconds, r.now)
		if runs(pod) {
			s.ReadyReplicas++
			if available {
				s.AvailableReplicas++
			}
		}
		if pod.DeletionTimestamp != nil || r.deleted[pod.UID] {
			continue
		}
		if revisionOf(pod) == r.current.Name {
			s.CurrentReplicas++
		}
		if revisionOf(pod) == r.update.Name {
			s.UpdatedReplicas++
		}
	}
	wanted := replicas(r.set)
	if r.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		s.UpdatedReplicas == wanted && s.ReadyReplicas == wanted && s.Replicas == wanted {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
	if equal.Semantic(r.set.Status, *s) {
		return nil
	}
	if _, err := r.api.UpdateStatus(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("status of %s: %w", r.key, err)
	}
	return nil
}

// again asks for another look when a ready pod becomes available by time alone.
func (r *round) again(owned []*corev1.Pod) error {
	var soonest time.Duration
	for _, pod := range owned {
		if _, wait := pods.IsAvailable(pod, r.set.Spec.MinReadySeconds, r.now); wait > 0 && (soonest == 0 || wait < soonest) {
			soonest = wait
		}
	}
	if soonest > 0 {
		return reconcile.After(soonest)
	}
	return nil
}
