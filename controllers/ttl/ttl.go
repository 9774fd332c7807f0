// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package ttl tells every node, by an annotation, how long its kubelet may keep secrets and config maps without asking again:
// the longer, the more nodes there are. kogge's kubelet watches what it uses and does not need it; upstream's reads it.
package ttl

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// step is the answer for clusters of a size. Steps overlap, so that a node more or less does not change all annotations.
type step struct{ least, most, seconds int }

// steps are upstream's.
func steps() []step {
	return []step{{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, math.MaxInt, 300}}
}

type controller struct {
	reconcile.Scope
	nodes *client.Informer[*corev1.Node]
	api   client.Resource[*corev1.Node]

	mu   sync.Mutex
	step int // index in steps
}

// New makes the loop; its keys are nodes.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{Scope: scope, nodes: client.InformerFor[*corev1.Node](scope.Informers), api: client.Of[*corev1.Node](scope.Client)}
	loop := reconcile.New(reconcile.Config{Name: "ttl-controller", Log: scope.Log, Workers: 2, Informers: scope.Informers, Reconcile: c.reconcile})
	resized := func() {
		if c.resize(c.nodes.Len()) {
			for node := range c.nodes.All() {
				loop.Enqueue(reconcile.KeyOf(node))
			}
		}
	}
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add: func(node *corev1.Node) { resized(); loop.Enqueue(reconcile.KeyOf(node)) },
		Update: func(old, node *corev1.Node) {
			if old.Annotations[corev1.ObjectTTLAnnotationKey] != node.Annotations[corev1.ObjectTTLAnnotationKey] {
				loop.Enqueue(reconcile.KeyOf(node))
			}
		},
		Delete: func(*corev1.Node) { resized() },
	})
	return loop
}

// resize reports whether a cluster of n nodes is on another step.
func (c *controller) resize(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, old := steps(), c.step
	for n > all[c.step].most {
		c.step++
	}
	for n < all[c.step].least {
		c.step--
	}
	return c.step != old
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	node, ok := c.nodes.Get("", key.Name)
	if !ok {
		return nil
	}
	c.mu.Lock()
	want := strconv.Itoa(steps()[c.step].seconds)
	c.mu.Unlock()
	if node.Annotations[corev1.ObjectTTLAnnotationKey] == want {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{corev1.ObjectTTLAnnotationKey: want}}})
	if err != nil {
		return err
	}
	_, err = c.api.Patch(ctx, "", node.Name, types.StrategicMergePatchType, patch)
	return client.IgnoreNotFound(err)
}
