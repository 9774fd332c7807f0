// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile/changes"
)

// own selects what is ours: not other proxies' objects, and no headless ones.
const own = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name"

// Follow feeds the proxy from informers and returns when it has seen all that exists, or ctx ends; the informers are run by the
// caller. Call it beside Run.
func (p *Proxy) Follow(ctx context.Context, informers *client.Informers) error {
	services := client.InformerFor[*corev1.Service](informers, client.Selection{LabelSelector: own})
	slices := client.InformerFor[*discoveryv1.EndpointSlice](informers, client.Selection{LabelSelector: own})
	node := client.InformerFor[*corev1.Node](informers, client.Selection{FieldSelector: "metadata.name=" + p.config.Rules.Node})
	if changes.Await(ctx, changes.Watch(p, services), changes.Watch(p, slices), changes.Watch(p, node)) {
		p.Synced()
	}
	return nil
}
