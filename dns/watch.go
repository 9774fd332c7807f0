// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Follow feeds the server from informers and returns when it has seen all that exists, or ctx ends; the informers are run by the
// caller. Call it beside Run.
func (s *Server) Follow(ctx context.Context, informers *client.Informers) error {
	services := client.InformerFor[*corev1.Service](informers)
	slices := client.InformerFor[*discoveryv1.EndpointSlice](informers)
	namespaces := client.InformerFor[*corev1.Namespace](informers)
	handle(s, services)
	handle(s, slices)
	handle(s, namespaces)
	for _, synced := range []<-chan struct{}{services.Synced(), slices.Synced(), namespaces.Synced()} {
		select {
		case <-synced:
		case <-ctx.Done():
			return nil
		}
	}
	s.Synced()
	return nil
}

func handle[T kinds.Object](s *Server, f *client.Informer[T]) {
	f.Handle(client.Handler[T]{
		Add:    func(obj T) { s.Upsert(obj) },
		Update: func(_, obj T) { s.Upsert(obj) },
		Delete: func(obj T) { s.Delete(obj) },
	})
}
