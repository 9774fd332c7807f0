// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package tainteviction deletes pods from nodes whose NoExecute taints they don't tolerate, or not any longer.
package tainteviction

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/taints"
)

type controller struct {
	reconcile.Scope
	pods  *client.Informer[*corev1.Pod]
	nodes *client.Informer[*corev1.Node]
	api   client.Resource[*corev1.Pod]

	mu sync.Mutex
	// since is when a pod that tolerates its node's taints for a while was first seen so.
	since map[reconcile.Key]noticed
}

// noticed is one pod's entry.
type noticed struct {
	uid types.UID
	at  time.Time
}

// New makes the loop; its keys are pods.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, pods: client.InformerFor[*corev1.Pod](scope.Informers), nodes: client.InformerFor[*corev1.Node](scope.Informers),
		api: client.Of[*corev1.Pod](scope.Client), since: map[reconcile.Key]noticed{},
	}
	reconcile.IndexNodes(c.pods)
	loop := reconcile.New(reconcile.Config{
		Name: "taint-eviction-controller", Log: scope.Log, Workers: 8, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.pods.Handle(client.Handler[*corev1.Pod]{
		Add: func(p *corev1.Pod) { loop.Enqueue(reconcile.KeyOf(p)) },
		Update: func(old, p *corev1.Pod) {
			if old.UID != p.UID || old.Spec.NodeName != p.Spec.NodeName || !equal.Semantic(old.Spec.Tolerations, p.Spec.Tolerations) {
				loop.Enqueue(reconcile.KeyOf(p))
			}
		},
		Delete: func(p *corev1.Pod) { loop.Enqueue(reconcile.KeyOf(p)) },
	})
	wake := func(node *corev1.Node) {
		for _, p := range reconcile.OnNode(c.pods, node.Name) {
			loop.Enqueue(reconcile.KeyOf(p))
		}
	}
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add: wake, Delete: wake,
		Update: func(old, node *corev1.Node) {
			if !equal.Semantic(executing(old), executing(node)) {
				wake(node)
			}
		},
	})
	return loop
}

// executing returns a node's NoExecute taints.
func executing(node *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil {
		c.forget(key)
		return nil
	}
	node, ok := c.nodes.Get("", pod.Spec.NodeName)
	if !ok {
		return nil // not bound, or the pod garbage collector's affair
	}
	tolerated, limited := tolerance(executing(node), pod.Spec.Tolerations)
	if !limited {
		if c.forget(key) {
			c.Events.Event(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", key)
		}
		return nil
	}
	if left := time.Until(c.note(key, pod.UID).Add(tolerated)); tolerated > 0 && left > 0 {
		return reconcile.After(left)
	}
	c.Events.Event(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", key)
	return reconcile.Evict(ctx, c.api, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
}

// tolerance returns how long all the taints together are tolerated; limited is false when that is for ever.
func tolerance(all []corev1.Taint, tolerations []corev1.Toleration) (d time.Duration, limited bool) {
	for i := range all {
		found := false
		for j := range tolerations {
			if !taints.Tolerates(&tolerations[j], &all[i]) {
				continue
			}
			found = true
			if seconds := tolerations[j].TolerationSeconds; seconds != nil {
				if own := time.Duration(max(0, *seconds)) * time.Second; !limited || own < d {
					d, limited = own, true
				}
			}
			break
		}
		if !found {
			return 0, true
		}
	}
	return d, limited
}

// note returns since when the pod has been waiting.
func (c *controller) note(key reconcile.Key, uid types.UID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.since[key]
	if !ok || known.uid != uid {
		known = noticed{uid: uid, at: time.Now()}
		c.since[key] = known
	}
	return known.at
}

// forget drops what is noted, and reports whether there was anything.
func (c *controller) forget(key reconcile.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.since[key]
	delete(c.since, key)
	return ok
}
