// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Follow feeds the enforcer from informers, which the caller runs, until ctx ends. The pods and namespaces of the whole cluster are
// followed only from the first policy on. Call it beside Run.
func (e *Enforcer) Follow(ctx context.Context, informers *client.Informers) error {
	policies := client.InformerFor[*networkingv1.NetworkPolicy](informers)
	first := make(chan struct{})
	var once sync.Once
	policies.Handle(client.Handler[*networkingv1.NetworkPolicy]{
		Add: func(p *networkingv1.NetworkPolicy) {
			once.Do(func() {
				e.setSynced(false)
				close(first)
			})
			e.Upsert(p)
		},
		Update: func(_, p *networkingv1.NetworkPolicy) { e.Upsert(p) },
		Delete: func(p *networkingv1.NetworkPolicy) { e.Delete(p) },
	})
	select {
	case <-policies.Synced():
	case <-ctx.Done():
		return nil
	}
	if policies.Len() == 0 {
		e.Synced()
	}
	select {
	case <-first:
	case <-ctx.Done():
		return nil
	}
	pods := client.InformerFor[*corev1.Pod](informers)
	namespaces := client.InformerFor[*corev1.Namespace](informers)
	handle(e, pods)
	handle(e, namespaces)
	for _, synced := range []<-chan struct{}{pods.Synced(), namespaces.Synced()} {
		select {
		case <-synced:
		case <-ctx.Done():
			return nil
		}
	}
	e.Synced()
	<-ctx.Done()
	return nil
}

func handle[T kinds.Object](e *Enforcer, f *client.Informer[T]) {
	f.Handle(client.Handler[T]{
		Add:    func(obj T) { e.Upsert(obj) },
		Update: func(_, obj T) { e.Upsert(obj) },
		Delete: func(obj T) { e.Delete(obj) },
	})
}
