// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile/changes"
)

// Follow feeds the server from informers and returns when it has seen all that exists, or ctx ends; the informers are run by the
// caller. Call it beside Run. Until then questions about the cluster fail, so that clients ask again.
func (s *Server) Follow(ctx context.Context, informers *client.Informers) error {
	services := changes.Watch(s.changes, client.InformerFor[*corev1.Service](informers))
	slices := changes.Watch(s.changes, client.InformerFor[*discoveryv1.EndpointSlice](informers))
	namespaces := changes.Watch(s.changes, client.InformerFor[*corev1.Namespace](informers))
	if changes.Await(ctx, services, slices, namespaces) {
		s.changes.Complete(true)
	}
	return nil
}
