// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package disruption keeps the status of PodDisruptionBudgets: how many pods they cover, how many of those are healthy,
// and so how many may be evicted. Evictions themselves are judged by the API server, by this status.
package disruption

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// patience is how long an evicted pod may take to be marked as being deleted, and a pod that was told to go to go.
const patience = 2 * time.Minute

type controller struct {
	reconcile.Scope
	budgets      *client.Informer[*policyv1.PodDisruptionBudget]
	pods         *client.Informer[*corev1.Pod]
	deployments  *client.Informer[*appsv1.Deployment]
	replicaSets  *client.Informer[*appsv1.ReplicaSet]
	statefulSets *client.Informer[*appsv1.StatefulSet]
	replications *client.Informer[*corev1.ReplicationController]
	scales       *reconcile.Scales
	api          client.Resource[*policyv1.PodDisruptionBudget]
}

// New makes the loop; its keys are budgets.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, budgets: client.InformerFor[*policyv1.PodDisruptionBudget](scope.Informers),
		pods:         client.InformerFor[*corev1.Pod](scope.Informers),
		deployments:  client.InformerFor[*appsv1.Deployment](scope.Informers),
		replicaSets:  client.InformerFor[*appsv1.ReplicaSet](scope.Informers),
		statefulSets: client.InformerFor[*appsv1.StatefulSet](scope.Informers),
		replications: client.InformerFor[*corev1.ReplicationController](scope.Informers),
		scales:       reconcile.NewScales(scope),
		api:          client.Of[*policyv1.PodDisruptionBudget](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "disruption-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.budgets)
	reconcile.On(loop, c.pods, c.covering)
	c.onScale(loop)
	return loop
}

// covering returns the budgets whose selector matches a pod.
func (c *controller) covering(pod *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for _, b := range c.budgets.List(pod.Namespace) {
		if s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && s.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.KeyOf(b))
		}
	}
	return keys
}

// onScale wakes a namespace's budgets when something there is scaled: percentages are of the wanted number of pods.
func (c *controller) onScale(loop *reconcile.Loop) {
	wake := func(namespace string, old, new *int32) {
		if equal.Semantic(old, new) {
			return
		}
		for _, b := range c.budgets.List(namespace) {
			loop.Enqueue(reconcile.KeyOf(b))
		}
	}
	watch(c.deployments, wake, func(d *appsv1.Deployment) *int32 { return d.Spec.Replicas })
	watch(c.replicaSets, wake, func(s *appsv1.ReplicaSet) *int32 { return s.Spec.Replicas })
	watch(c.statefulSets, wake, func(s *appsv1.StatefulSet) *int32 { return s.Spec.Replicas })
	watch(c.replications, wake, func(r *corev1.ReplicationController) *int32 { return r.Spec.Replicas })
}

func watch[T kinds.Object](f *client.Informer[T], wake func(namespace string, old, new *int32), replicas func(T) *int32) {
	f.Handle(client.Handler[T]{
		Add:    func(obj T) { wake(obj.GetNamespace(), nil, replicas(obj)) }, // its pods may have been seen before
		Update: func(old, new T) { wake(new.GetNamespace(), replicas(old), replicas(new)) },
	})
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	budget, ok := c.budgets.Get(key.Namespace, key.Name)
	if !ok {
		return nil
	}
	wait, err := c.update(ctx, budget)
	switch {
	case err == nil && wait > 0:
		return reconcile.After(wait)
	case err == nil:
		return nil
	case apierrors.IsConflict(err):
		return err // an eviction was counted meanwhile
	}
	// What can't be computed must not allow evictions.
	c.Log.Debug("budget not computed", "object", key, "err", err)
	next := budget.DeepCopy()
	next.Status.DisruptionsAllowed = 0
	apimeta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: err.Error(),
		ObservedGeneration: next.Status.ObservedGeneration,
	})
	if err := c.write(ctx, budget, next); err != nil {
		return err
	}
	return err // what it lacked may come, and nothing tells of it
}

// update computes and writes the status, and returns after how long to look again.
func (c *controller) update(ctx context.Context, budget *policyv1.PodDisruptionBudget) (time.Duration, error) {
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		c.Events.Event(budget, corev1.EventTypeWarning, "NoPods", "Failed to get pods: %v", err)
		return 0, err
	}
	var covered []*corev1.Pod
	for _, pod := range c.pods.List(budget.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			covered = append(covered, pod)
		}
	}
	if len(covered) == 0 {
		c.Events.Event(budget, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	expected, desired, err := c.count(ctx, budget, covered)
	if err != nil {
		c.Events.Event(budget, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		return 0, err
	}
	now := time.Now()
	disrupted, wait := c.disrupted(budget, covered, now)
	healthy := int32(0)
	for _, pod := range covered {
		if _, going := disrupted[pod.Name]; !going && pod.DeletionTimestamp == nil && pods.IsReady(pod) {
			healthy++
		}
	}
	allowed := max(0, healthy-desired)
	if expected <= 0 {
		allowed = 0
	}
	next := budget.DeepCopy()
	next.Status = policyv1.PodDisruptionBudgetStatus{
		CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: expected, DisruptionsAllowed: allowed, DisruptedPods: disrupted,
		ObservedGeneration: budget.Generation, Conditions: next.Status.Conditions,
	}
	condition := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
		ObservedGeneration: budget.Generation,
	}
	if allowed > 0 {
		condition.Status, condition.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	apimeta.SetStatusCondition(&next.Status.Conditions, condition)
	return wait, c.write(ctx, budget, next)
}

func (c *controller) write(ctx context.Context, old, next *policyv1.PodDisruptionBudget) error {
	if equal.Semantic(old.Status, next.Status) {
		return nil
	}
	if _, err := c.api.UpdateStatus(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("status of budget %s/%s: %w", old.Namespace, old.Name, err)
	}
	return nil
}

// count returns how many pods there should be and how many of them must stay healthy.
func (c *controller) count(ctx context.Context, budget *policyv1.PodDisruptionBudget, covered []*corev1.Pod) (expected, desired int32, err error) {
	least, most := budget.Spec.MinAvailable, budget.Spec.MaxUnavailable
	if most == nil && least == nil {
		return 0, 0, nil
	}
	if most == nil && least.Type == intstr.Int {
		return int32(len(covered)), least.IntVal, nil
	}
	var unmanaged bool
	if expected, unmanaged, err = c.scale(ctx, covered); err != nil {
		return 0, 0, err
	}
	if unmanaged {
		c.Events.Event(budget, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found "+
			"to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
			"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", budget.Spec.Selector)
	}
	bound := most
	if bound == nil {
		bound = least
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(bound, int(expected), true)
	if err != nil {
		return 0, 0, err
	}
	if most == nil {
		return expected, int32(n), nil
	}
	return expected, max(0, expected-int32(n)), nil
}

// disrupted keeps of the pods that the API server has evicted those that are not being deleted yet but still may be.
func (c *controller) disrupted(budget *policyv1.PodDisruptionBudget, covered []*corev1.Pod, now time.Time) (map[string]metav1.Time, time.Duration) {
	kept := map[string]metav1.Time{}
	var soonest time.Duration
	for _, pod := range covered {
		at, ok := budget.Status.DisruptedPods[pod.Name]
		if !ok || pod.DeletionTimestamp != nil {
			continue
		}
		left := at.Add(patience).Sub(now)
		if left <= 0 {
			c.Events.Event(pod, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", budget.Namespace, budget.Name)
			continue
		}
		kept[pod.Name] = at
		if soonest == 0 || left < soonest {
			soonest = left
		}
	}
	return kept, soonest
}
