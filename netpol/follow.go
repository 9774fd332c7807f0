// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile/changes"
)

// Follow feeds the enforcer from informers, which the caller runs, until ctx ends. The pods and namespaces of the whole cluster are
// followed only from the first policy on. Call it beside Run.
func (e *Enforcer) Follow(ctx context.Context, informers *client.Informers) error {
	policies := client.InformerFor[*networkingv1.NetworkPolicy](informers)
	first := make(chan struct{})
	var (
		mu   sync.Mutex // the first policy may come just when there seems to be none
		some bool
	)
	policies.Handle(client.Handler[*networkingv1.NetworkPolicy]{Add: func(*networkingv1.NetworkPolicy) {
		mu.Lock()
		defer mu.Unlock()
		if !some {
			some = true
			e.changes.Complete(false)
			close(first)
		}
	}})
	if !changes.Await(ctx, changes.Watch(e.changes, policies)) {
		return nil
	}
	mu.Lock()
	if !some {
		e.changes.Complete(true)
	}
	mu.Unlock()
	if !changes.Await(ctx, first) {
		return nil
	}
	pods := changes.Watch(e.changes, client.InformerFor[*corev1.Pod](informers))
	namespaces := changes.Watch(e.changes, client.InformerFor[*corev1.Namespace](informers))
	if changes.Await(ctx, pods, namespaces) {
		e.changes.Complete(true)
	}
	<-ctx.Done()
	return nil
}
