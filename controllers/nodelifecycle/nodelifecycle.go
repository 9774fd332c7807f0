// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package nodelifecycle watches the heartbeats of nodes. It taints nodes by their conditions, declares the conditions of
// a node unknown when its heartbeats stop, and takes pods of nodes that are not ready out of service.
package nodelifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// Times, upstream's defaults.
const (
	grace   = 50 * time.Second // without a heartbeat before a node counts as unknown
	startup = time.Minute      // the same for a node that has never reported
)

// beat is the last sign of life of a node, by our own clock: other machines' clocks are never compared with ours.
type beat struct {
	mark string // what the sign was: lease renewal and status heartbeat
	at   time.Time
}

type controller struct {
	reconcile.Scope
	nodes  *client.Informer[*corev1.Node]
	leases *client.Informer[*coordinationv1.Lease]
	pods   *client.Informer[*corev1.Pod]
	api    client.Resource[*corev1.Node]
	podAPI client.Resource[*corev1.Pod]

	loop   *reconcile.Loop
	filled sync.Once

	mu    sync.Mutex
	beats map[string]beat
	zones *zones
	// granted are nodes that may be tainted: the zone's permission is used once, the writing may take several attempts.
	granted map[string]bool
}

// New makes the loop; its keys are nodes.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, beats: map[string]beat{}, zones: newZones(), granted: map[string]bool{}, nodes: client.InformerFor[*corev1.Node](scope.Informers),
		leases: client.InformerFor[*coordinationv1.Lease](scope.Informers, client.Selection{Namespace: corev1.NamespaceNodeLease}),
		pods:   client.InformerFor[*corev1.Pod](scope.Informers),
		api:    client.Of[*corev1.Node](scope.Client), podAPI: client.Of[*corev1.Pod](scope.Client),
	}
	reconcile.IndexNodes(c.pods)
	loop := reconcile.New(reconcile.Config{
		Name: "node-lifecycle-controller", Log: scope.Log, Workers: 2, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.loop = loop
	reconcile.Self(loop, c.nodes)
	reconcile.On(loop, c.leases, func(l *coordinationv1.Lease) []reconcile.Key { return []reconcile.Key{{Name: l.Name}} })
	return loop
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	c.filled.Do(c.fill)
	node, ok := c.nodes.Get("", key.Name)
	if !ok {
		c.mu.Lock()
		delete(c.beats, key.Name)
		changed := c.zones.drop(key.Name)
		c.mu.Unlock()
		if changed {
			c.lookAtAll()
		}
		return nil
	}
	left := c.untilUnknown(node)
	var errs []error
	if left <= 0 {
		changed, err := c.declareUnknown(ctx, node)
		if err != nil {
			return err
		}
		node = changed
	}
	c.count(node)
	wait, err := c.taint(ctx, node)
	errs = append(errs, err)
	if ready := condition(node, corev1.NodeReady); ready != nil && ready.Status != corev1.ConditionTrue {
		errs = append(errs, c.markPods(ctx, node))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if left <= 0 || wait > 0 && wait < left {
		left = wait
	}
	if left > 0 {
		return reconcile.After(left)
	}
	return nil
}

// fill counts all nodes before the first is judged, so that it does not look like the only one.
func (c *controller) fill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node := range c.nodes.All() {
		c.zones.put(node.Name, memberOf(node))
	}
}

func memberOf(node *corev1.Node) member {
	ready := condition(node, corev1.NodeReady)
	return member{zone: zoneOf(node), ready: ready != nil && ready.Status == corev1.ConditionTrue}
}

// count takes in a node's readiness. When that changes how fast pods are driven off, all nodes are looked at anew; when the
// control plane sees the first nodes again, all others get their time to be seen as well.
func (c *controller) count(node *corev1.Node) {
	c.mu.Lock()
	halted := c.zones.halted()
	changed := c.zones.put(node.Name, memberOf(node))
	if halted && !c.zones.halted() {
		for name, b := range c.beats {
			c.beats[name] = beat{mark: b.mark, at: time.Now()}
		}
	}
	c.mu.Unlock()
	if changed {
		c.lookAtAll()
	}
}

func (c *controller) lookAtAll() {
	for node := range c.nodes.All() {
		c.loop.Enqueue(reconcile.KeyOf(node))
	}
}

// untilUnknown notes the newest sign of life and returns how long the node may stay silent.
func (c *controller) untilUnknown(node *corev1.Node) time.Duration {
	mark := ""
	if lease, ok := c.leases.Get(corev1.NamespaceNodeLease, node.Name); ok && lease.Spec.RenewTime != nil {
		mark = lease.Spec.RenewTime.Format(time.RFC3339Nano)
	}
	limit := startup
	if ready := condition(node, corev1.NodeReady); ready != nil {
		limit = grace
		if ready.Status != corev1.ConditionUnknown || ready.Reason != unknownReason {
			mark += " " + ready.LastHeartbeatTime.Format(time.RFC3339)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.beats[node.Name]
	if !known || last.mark != mark {
		last = beat{mark: mark, at: time.Now()}
		c.beats[node.Name] = last
	}
	return time.Until(last.at.Add(limit))
}

const unknownReason = "NodeStatusUnknown"

// declareUnknown sets every condition that a kubelet reports to Unknown.
func (c *controller) declareUnknown(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	next := node.DeepCopy()
	now := metav1.Now()
	changed := false
	for _, kind := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		known := condition(next, kind)
		switch {
		case known == nil:
			next.Status.Conditions = append(next.Status.Conditions, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: now,
			})
			changed = true
		case known.Status != corev1.ConditionUnknown:
			known.Status, known.Reason, known.Message = corev1.ConditionUnknown, unknownReason, "Kubelet stopped posting node status."
			known.LastTransitionTime = now
			changed = true
		}
	}
	if !changed {
		return node, nil
	}
	c.Events.Event(node, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
	updated, err := c.api.UpdateStatus(ctx, next)
	if err != nil {
		return node, err
	}
	c.mu.Lock()
	delete(c.beats, node.Name) // the mark contains what was just written
	c.mu.Unlock()
	return updated, nil
}

// managed are the taints that this loop owns.
var managed = []corev1.Taint{
	{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute},
	{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeDiskPressure, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodePIDPressure, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeNetworkUnavailable, Effect: corev1.TaintEffectNoSchedule},
	{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule},
}

// wanted are the taints that a node's conditions ask for.
func wanted(node *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	add := func(key string, effects ...corev1.TaintEffect) {
		for _, e := range effects {
			out = append(out, corev1.Taint{Key: key, Effect: e})
		}
	}
	switch ready := condition(node, corev1.NodeReady); {
	case ready == nil || ready.Status == corev1.ConditionFalse:
		add(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
	case ready.Status == corev1.ConditionUnknown:
		add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
	}
	for kind, key := range map[corev1.NodeConditionType]string{
		corev1.NodeMemoryPressure: corev1.TaintNodeMemoryPressure, corev1.NodeDiskPressure: corev1.TaintNodeDiskPressure,
		corev1.NodePIDPressure: corev1.TaintNodePIDPressure, corev1.NodeNetworkUnavailable: corev1.TaintNodeNetworkUnavailable,
	} {
		if c := condition(node, kind); c != nil && c.Status == corev1.ConditionTrue {
			add(key, corev1.TaintEffectNoSchedule)
		}
	}
	if node.Spec.Unschedulable {
		add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	}
	return out
}

// has reports whether a list holds a taint's key and effect.
func has(list []corev1.Taint, t corev1.Taint) bool {
	return slices.ContainsFunc(list, func(k corev1.Taint) bool { return k.Key == t.Key && k.Effect == t.Effect })
}

// paced takes out of the wanted taints those that would drive pods off now, where the zone does not allow it, and returns how
// long to wait for it. A node that drives pods off already may do so for another reason.
func (c *controller) paced(node *corev1.Node, want []corev1.Taint) ([]corev1.Taint, time.Duration) {
	drives := func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute }
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.ContainsFunc(want, drives) {
		delete(c.granted, node.Name)
		return want, 0
	}
	wait := never
	if !c.zones.halted() {
		if slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return drives(t) && has(managed, t) }) {
			delete(c.granted, node.Name)
			return want, 0
		}
		ok := c.granted[node.Name]
		if !ok {
			ok, wait = c.zones.take(zoneOf(node), time.Now())
		}
		if ok {
			c.granted[node.Name] = true
			return want, 0
		}
	}
	return slices.DeleteFunc(want, drives), wait
}

// taint brings the managed taints in line; others stay. It returns when to try again.
func (c *controller) taint(ctx context.Context, node *corev1.Node) (time.Duration, error) {
	want, wait := c.paced(node, wanted(node))
	next := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return has(managed, t) && !has(want, t) })
	now := metav1.Now()
	for _, t := range managed {
		if has(want, t) && !has(next, t) {
			t.TimeAdded = &now
			next = append(next, t)
		}
	}
	if len(next) == len(node.Spec.Taints) && !slices.ContainsFunc(next, func(t corev1.Taint) bool { return !has(node.Spec.Taints, t) }) {
		return wait, nil
	}
	if next == nil {
		next = []corev1.Taint{}
	}
	// The list is replaced as it was read: another writer's taint is never lost.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion}, "spec": map[string]any{"taints": next},
	})
	if err != nil {
		return 0, err
	}
	_, err = c.api.Patch(ctx, "", node.Name, types.MergePatchType, patch)
	return wait, client.IgnoreNotFound(err)
}

// markPods sets the Ready condition of the node's pods to false, so that Services leave them out.
func (c *controller) markPods(ctx context.Context, node *corev1.Node) error {
	var errs []error
	for _, pod := range reconcile.OnNode(c.pods, node.Name) {
		if !pods.IsReady(pod) {
			continue
		}
		next := pod.DeepCopy()
		ready := pods.Condition(next, corev1.PodReady)
		ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, metav1.Now()
		if _, err := c.podAPI.UpdateStatus(ctx, next); err != nil {
			errs = append(errs, client.IgnoreNotFound(err)) // the next look sees a pod that has changed
			continue
		}
		c.Events.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return errors.Join(errs...)
}

func condition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}
