// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package deployment rolls a Deployment's pod template out: it keeps one ReplicaSet per template, moves replicas from the
// old ones to the newest within maxSurge and maxUnavailable, and reports progress.
package deployment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

type controller struct {
	reconcile.Scope
	loop        *reconcile.Loop
	deployments *client.Informer[*appsv1.Deployment]
	sets        *client.Informer[*appsv1.ReplicaSet]
	pods        *client.Informer[*corev1.Pod]
	api         client.Resource[*appsv1.Deployment]
	setAPI      client.Resource[*appsv1.ReplicaSet]
}

var (
	kindDeployment = appsv1.SchemeGroupVersion.WithKind("Deployment")
	kindReplicaSet = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
)

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope:       scope,
		deployments: client.InformerFor[*appsv1.Deployment](scope.Informers),
		sets:        client.InformerFor[*appsv1.ReplicaSet](scope.Informers),
		pods:        client.InformerFor[*corev1.Pod](scope.Informers),
		api:         client.Of[*appsv1.Deployment](scope.Client),
		setAPI:      client.Of[*appsv1.ReplicaSet](scope.Client),
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: "deployment-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.IndexControllers(c.sets)
	reconcile.IndexControllers(c.pods)
	reconcile.Self(c.loop, c.deployments)
	reconcile.On(c.loop, c.sets, c.deploymentsOf)
	// A Recreate rollout goes on when the last old pod is gone.
	c.pods.Handle(client.Handler[*corev1.Pod]{Delete: func(pod *corev1.Pod) {
		if ref := metav1.GetControllerOf(pod); ref != nil && ref.Kind == kindReplicaSet.Kind {
			if rs, ok := c.sets.Get(pod.Namespace, ref.Name); ok {
				c.loop.Enqueue(c.deploymentsOf(rs)...)
			}
		}
	}})
	return c.loop
}

// deploymentsOf returns the keys of the Deployments that a ReplicaSet's change concerns.
func (c *controller) deploymentsOf(rs *appsv1.ReplicaSet) []reconcile.Key {
	if ref := metav1.GetControllerOf(rs); ref != nil {
		if ref.Kind != kindDeployment.Kind {
			return nil
		}
		return []reconcile.Key{{Namespace: rs.Namespace, Name: ref.Name}}
	}
	var keys []reconcile.Key
	for _, d := range c.deployments.List(rs.Namespace) {
		if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && s.Matches(labels.Set(rs.Labels)) {
			keys = append(keys, reconcile.KeyOf(d))
		}
	}
	return keys
}

// rollout is one reconcile of one Deployment: the Deployment, its ReplicaSets, and what was decided so far.
type rollout struct {
	*controller
	d *appsv1.Deployment
	// newest is the ReplicaSet of the current template, nil while there is none.
	newest *appsv1.ReplicaSet
	// old holds the other ReplicaSets, oldest first.
	old []*appsv1.ReplicaSet
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	known, ok := c.deployments.Get(key.Namespace, key.Name)
	if !ok {
		return nil
	}
	d := known.DeepCopy()
	if emptySelector(d.Spec.Selector) {
		c.Events.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return c.observe(ctx, d)
	}
	sets, err := c.claim(ctx, d)
	if err != nil {
		return err
	}
	r := &rollout{controller: c, d: d}
	r.sort(sets)
	if d.DeletionTimestamp != nil {
		return r.syncStatus(ctx)
	}
	if err := r.pauseConditions(ctx); err != nil {
		return err
	}
	if d.Spec.Paused {
		if err := r.annotateNewest(ctx); err != nil {
			return err
		}
		return errors.Join(r.scale(ctx), r.syncStatus(ctx))
	}
	if r.isScaling() {
		if err := r.annotateNewest(ctx); err != nil {
			return err
		}
		return errors.Join(r.scale(ctx), r.syncStatus(ctx))
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return r.recreate(ctx)
	}
	return r.rolling(ctx)
}

func emptySelector(s *metav1.LabelSelector) bool {
	return s == nil || (len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0)
}

// observe only reports that the generation was seen.
func (c *controller) observe(ctx context.Context, d *appsv1.Deployment) error {
	if d.Status.ObservedGeneration >= d.Generation {
		return nil
	}
	d.Status.ObservedGeneration = d.Generation
	_, err := c.api.UpdateStatus(ctx, d)
	return err
}

func (c *controller) claim(ctx context.Context, d *appsv1.Deployment) ([]*appsv1.ReplicaSet, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, reconcile.Terminal(fmt.Errorf("selector of %s/%s: %w", d.Namespace, d.Name, err))
	}
	claim := reconcile.Claim[*appsv1.ReplicaSet]{
		Owner: d, Kind: kindDeployment, Selector: selector, Objects: c.setAPI,
		Fresh: func(ctx context.Context) (kinds.Object, error) { return c.api.Get(ctx, d.Namespace, d.Name) },
	}
	return claim.All(ctx, reconcile.OwnedBy(c.sets, d))
}

// sort finds the ReplicaSet of the current template, the oldest one where several match, and orders the others by age.
func (r *rollout) sort(sets []*appsv1.ReplicaSet) {
	slices.SortFunc(sets, byAge)
	for _, rs := range sets {
		if r.newest == nil && sameTemplate(&rs.Spec.Template, &r.d.Spec.Template) {
			r.newest = rs.DeepCopy()
			continue
		}
		r.old = append(r.old, rs.DeepCopy())
	}
}

func byAge(a, b *appsv1.ReplicaSet) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	if a.Name < b.Name {
		return -1
	}
	return 1
}

// all returns every ReplicaSet.
func (r *rollout) all() []*appsv1.ReplicaSet {
	sets := slices.Clone(r.old)
	if r.newest != nil {
		sets = append(sets, r.newest)
	}
	return sets
}

// pauseConditions notes a pause or its end in the Progressing condition, so that a paused rollout does not time out.
func (r *rollout) pauseConditions(ctx context.Context) error {
	if r.d.Spec.ProgressDeadlineSeconds == nil {
		return nil
	}
	c := condition(r.d.Status.Conditions, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == timedOutReason {
		return nil
	}
	paused := c != nil && c.Reason == pausedReason
	switch {
	case r.d.Spec.Paused && !paused:
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, pausedReason, "Deployment is paused"))
	case !r.d.Spec.Paused && paused:
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, resumedReason, "Deployment is resumed"))
	default:
		return nil
	}
	updated, err := r.api.UpdateStatus(ctx, r.d)
	if err == nil {
		r.d = updated.DeepCopy()
	}
	return err
}

// isScaling reports whether spec.replicas changed since the ReplicaSets were last annotated with it: then the change is
// spread over all of them before any rollout goes on.
func (r *rollout) isScaling() bool {
	for _, rs := range r.all() {
		if *rs.Spec.Replicas == 0 {
			continue
		}
		if desired, ok := annotatedReplicas(rs, desiredAnnotation); ok && desired != *r.d.Spec.Replicas {
			return true
		}
	}
	return false
}

// recreate stops all old pods before it starts new ones.
func (r *rollout) recreate(ctx context.Context) error {
	if err := r.annotateNewest(ctx); err != nil {
		return err
	}
	down := false
	for _, rs := range r.old {
		if *rs.Spec.Replicas == 0 {
			continue
		}
		if err := r.resize(ctx, rs, 0); err != nil {
			return err
		}
		down = true
	}
	if down || r.oldPodsRun() {
		return r.syncStatus(ctx)
	}
	if err := r.ensureNewest(ctx); err != nil {
		return err
	}
	if r.newest == nil {
		return r.syncStatus(ctx)
	}
	if err := r.resize(ctx, r.newest, *r.d.Spec.Replicas); err != nil {
		return err
	}
	return errors.Join(r.cleanupIfComplete(ctx), r.syncStatus(ctx))
}

// oldPodsRun reports whether any pod of an old ReplicaSet has not finished.
func (r *rollout) oldPodsRun() bool {
	for _, rs := range r.old {
		for _, pod := range reconcile.Controlled(r.pods, rs) {
			if !pods.IsFinished(pod) {
				return true
			}
		}
	}
	return false
}

// rolling takes one step of a rolling update: up if there is room, else down if enough is available.
func (r *rollout) rolling(ctx context.Context) error {
	if err := r.ensureNewest(ctx); err != nil {
		return err
	}
	if r.newest == nil {
		return r.syncStatus(ctx)
	}
	up, err := r.growNewest(ctx)
	if err != nil || up {
		return errors.Join(err, r.syncStatus(ctx))
	}
	down, err := r.shrinkOld(ctx)
	if err != nil || down {
		return errors.Join(err, r.syncStatus(ctx))
	}
	return errors.Join(r.cleanupIfComplete(ctx), r.syncStatus(ctx))
}

// cleanupIfComplete deletes old, empty ReplicaSets beyond the history limit once the rollout is complete.
func (r *rollout) cleanupIfComplete(ctx context.Context) error {
	if !complete(r.d, &r.d.Status) || r.d.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	var idle []*appsv1.ReplicaSet
	for _, rs := range r.old {
		if rs.DeletionTimestamp == nil && rs.Status.Replicas == 0 && *rs.Spec.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			idle = append(idle, rs)
		}
	}
	over := len(r.old) - int(*r.d.Spec.RevisionHistoryLimit)
	slices.SortFunc(idle, func(a, b *appsv1.ReplicaSet) int { return int(revisionOf(a) - revisionOf(b)) })
	for _, rs := range idle[:max(0, min(over, len(idle)))] {
		if err := r.setAPI.Delete(ctx, rs.Namespace, rs.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// syncStatus reports, and comes back when the progress deadline may have passed.
func (r *rollout) syncStatus(ctx context.Context) error {
	next := r.status()
	r.progress(&next)
	changed := !equalStatus(&r.d.Status, &next)
	if known, ok := r.deployments.Get(r.d.Namespace, r.d.Name); ok && !changed {
		changed = !equalStatus(&known.Status, &next)
	}
	if changed {
		r.d.Status = next
		if _, err := r.api.UpdateStatus(ctx, r.d); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("status of %s/%s: %w", r.d.Namespace, r.d.Name, err)
		}
	}
	if wait, ok := r.untilDeadline(&next); ok {
		return reconcile.After(wait + time.Second)
	}
	return nil
}
