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
	var once sync.Once
	policies.Handle(client.Handler[*networkingv1.NetworkPolicy]{Add: func(*networkingv1.NetworkPolicy) {
		once.Do(func() {
			e.changes.Complete(false)
			close(first)
		})
	}})
	if !changes.Await(ctx, changes.Watch(e.changes, policies)) {
		return nil
	}
	if policies.Len() == 0 {
		e.changes.Complete(true)
	}
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
