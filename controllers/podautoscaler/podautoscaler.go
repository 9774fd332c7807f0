// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podautoscaler keeps the size of a workload where its metrics want it (autoscaling/v2).
//
// Every 15 seconds, for each autoscaler: read the target's scale; ask each metric how many replicas it wants (replicas.go) and
// take the largest answer; hold it within windows, rates and bounds (pace.go); write the scale and the status.
package podautoscaler

import (
	"context"
	"fmt"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
)

// period is how often an autoscaler looks at its metrics; they have no events.
const period = 15 * time.Second

type controller struct {
	reconcile.Scope
	autoscalers *client.Informer[*autoscalingv2.HorizontalPodAutoscaler]
	pods        *client.Informer[*corev1.Pod]
	api         client.Resource[*autoscalingv2.HorizontalPodAutoscaler]
	scales      *reconcile.Scales
	metrics     sources

	mu        sync.Mutex
	histories map[reconcile.Key]*history
	// selectors of the autoscalers' targets, by which it is found out that two have the same pods.
	selectors map[reconcile.Key]labels.Selector
}

// New makes the loop; its keys are autoscalers.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, autoscalers: client.InformerFor[*autoscalingv2.HorizontalPodAutoscaler](scope.Informers),
		pods: client.InformerFor[*corev1.Pod](scope.Informers), api: client.Of[*autoscalingv2.HorizontalPodAutoscaler](scope.Client),
		scales: reconcile.NewScales(scope), metrics: sources{scope.Client},
		histories: map[reconcile.Key]*history{}, selectors: map[reconcile.Key]labels.Selector{},
	}
	loop := reconcile.New(reconcile.Config{
		Name: "horizontal-pod-autoscaler-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.autoscalers.Handle(client.Handler[*autoscalingv2.HorizontalPodAutoscaler]{
		Add: func(a *autoscalingv2.HorizontalPodAutoscaler) { loop.Enqueue(reconcile.KeyOf(a)) },
		Update: func(old, a *autoscalingv2.HorizontalPodAutoscaler) {
			if old.UID != a.UID || !equal.Semantic(old.Spec, a.Spec) {
				loop.Enqueue(reconcile.KeyOf(a))
			}
		},
		Delete: func(a *autoscalingv2.HorizontalPodAutoscaler) { loop.Enqueue(reconcile.KeyOf(a)) },
	})
	return loop
}

// round is one look at one autoscaler. Its copy of the object collects the new status.
type round struct {
	*controller
	key     reconcile.Key
	object  *autoscalingv2.HorizontalPodAutoscaler
	history *history
	now     time.Time

	gvr      schema.GroupVersionResource
	scale    *autoscalingv1.Scale
	selector labels.Selector
	pods     []*corev1.Pod
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	a, ok := c.autoscalers.Get(key.Namespace, key.Name)
	c.mu.Lock()
	if !ok {
		delete(c.histories, key)
		delete(c.selectors, key)
		c.mu.Unlock()
		return nil
	}
	h := c.histories[key]
	if h == nil {
		h = &history{}
		c.histories[key] = h
	}
	c.mu.Unlock()
	r := &round{controller: c, key: key, object: a.DeepCopy(), history: h, now: time.Now()}
	if err := r.run(ctx); err != nil {
		c.Log.Debug("autoscaler could not do all", "object", key, "err", err)
	}
	if !equal.Semantic(a.Status, r.object.Status) {
		if _, err := c.api.UpdateStatus(ctx, r.object); err != nil && !apierrors.IsNotFound(err) {
			if !apierrors.IsConflict(err) {
				c.Events.Event(a, corev1.EventTypeWarning, "FailedUpdateStatus", "%v", err)
			}
			return fmt.Errorf("update status of autoscaler %s: %w", key, err)
		}
	}
	return reconcile.After(period)
}

// run does the round; what went wrong is in the conditions and events by then.
func (r *round) run(ctx context.Context) error {
	if err := r.read(ctx); err != nil {
		r.Events.Event(r.object, corev1.EventTypeWarning, "FailedGetScale", "%v", err)
		r.set(autoscalingv2.AbleToScale, false, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
		return err
	}
	r.set(autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current := r.scale.Spec.Replicas
	r.history.begin(current, r.now)
	least, most := int32(1), r.object.Spec.MaxReplicas
	if m := r.object.Spec.MinReplicas; m != nil {
		least = *m
	}
	switch {
	case current == 0:
		r.set(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		r.report(current, 0, nil, false)
		return nil
	case current > most:
		return r.rescale(ctx, current, most, "Current number of replicas above Spec.MaxReplicas", nil)
	case current < least:
		return r.rescale(ctx, current, least, "Current number of replicas below Spec.MinReplicas", nil)
	}
	answer, statuses, err := r.ask(ctx)
	if answer == nil {
		r.report(current, r.object.Status.DesiredReplicas, statuses, false)
		r.Events.Event(r.object, corev1.EventTypeWarning, "FailedComputeMetricsReplicas", "%v", err)
		return err
	}
	reason := "All metrics below target"
	if answer.replicas > current {
		reason = answer.metric + " above target"
	}
	stable, final := r.history.pace(r.object.Spec.Behavior, current, answer.replicas, least, most, r.now)
	r.set(autoscalingv2.AbleToScale, true, stable.reason, stable.message)
	r.set(autoscalingv2.ScalingLimited, final.limited, final.reason, final.message)
	if final.replicas == current {
		r.report(current, current, statuses, false)
		return err
	}
	if failure := r.rescale(ctx, current, final.replicas, reason, statuses); failure != nil {
		return failure
	}
	return err
}

// read finds the target's scale.
func (r *round) read(ctx context.Context) error {
	ref := r.object.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return err
	}
	if r.gvr, err = r.scales.Resource(gv.WithKind(ref.Kind)); err != nil {
		return err
	}
	r.scale, err = r.scales.Get(ctx, r.gvr, r.object.Namespace, ref.Name)
	return err
}

// rescale writes the new size, again if somebody else changed the target meanwhile.
func (r *round) rescale(ctx context.Context, current, wanted int32, reason string, statuses []autoscalingv2.MetricStatus) error {
	var err error
	for range 5 {
		next := r.scale.DeepCopy()
		next.Spec.Replicas = wanted
		if _, err = r.scales.Update(ctx, r.gvr, next); !apierrors.IsConflict(err) {
			break
		}
		if latest, failure := r.scales.Get(ctx, r.gvr, next.Namespace, next.Name); failure == nil {
			r.scale = latest
		}
	}
	if err != nil {
		r.Events.Event(r.object, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", wanted, reason, err)
		r.set(autoscalingv2.AbleToScale, false, "FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err))
		r.report(current, r.object.Status.DesiredReplicas, statuses, false)
		return fmt.Errorf("rescale %s %s: %w", r.gvr.GroupResource(), r.key, err)
	}
	r.set(autoscalingv2.AbleToScale, true, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", wanted))
	r.Events.Event(r.object, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", wanted, reason)
	r.Log.Info("workload rescaled", "object", r.key, "from", current, "to", wanted, "reason", reason)
	r.history.changed(current, wanted, r.now)
	r.report(current, wanted, statuses, true)
	return nil
}

// report fills the status.
func (r *round) report(current, desired int32, statuses []autoscalingv2.MetricStatus, rescaled bool) {
	s := &r.object.Status
	s.CurrentReplicas, s.DesiredReplicas, s.CurrentMetrics = current, desired, statuses
	if rescaled {
		now := metav1.NewTime(r.now)
		s.LastScaleTime = &now
	}
}

// set sets a condition.
func (r *round) set(kind autoscalingv2.HorizontalPodAutoscalerConditionType, holds bool, reason, message string) {
	status := corev1.ConditionFalse
	if holds {
		status = corev1.ConditionTrue
	}
	s := &r.object.Status
	for i := range s.Conditions {
		if c := &s.Conditions[i]; c.Type == kind {
			if c.Status != status {
				c.LastTransitionTime = metav1.NewTime(r.now)
			}
			c.Status, c.Reason, c.Message = status, reason, message
			return
		}
	}
	s.Conditions = append(s.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(r.now),
	})
}
