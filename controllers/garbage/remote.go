// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package garbage

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// followServices looks for resources of other servers whenever an APIService changes.
func (c *controller) followServices() {
	c.services = reconcile.APIServices(c.Informers)
	look := func(svc *apiregistrationv1.APIService) {
		c.loop.Enqueue(reconcile.Key{Namespace: discover, Name: svc.Name})
	}
	c.services.Handle(client.Handler[*apiregistrationv1.APIService]{
		Add: func(svc *apiregistrationv1.APIService) {
			if svc.Spec.Service != nil {
				look(svc)
			}
		},
		Update: func(old, svc *apiregistrationv1.APIService) {
			if old.Spec.Service != nil || svc.Spec.Service != nil {
				look(svc)
			}
		},
		Delete: look,
	})
}

// discover follows the resources of an APIService's server, or drops them when the APIService is gone. While the server is away what is
// followed stays: its objects are not gone.
func (c *controller) discover(ctx context.Context, name string) error {
	svc, ok := c.services.Get("", name)
	if !ok || svc.Spec.Service == nil {
		c.dropService(name, func(*resource) bool { return true })
		return nil
	}
	available := slices.ContainsFunc(svc.Status.Conditions, func(cond apiregistrationv1.APIServiceCondition) bool {
		return cond.Type == apiregistrationv1.Available && cond.Status == apiregistrationv1.ConditionTrue
	})
	if !available {
		return nil
	}
	gv := schema.GroupVersion{Group: svc.Spec.Group, Version: svc.Spec.Version}
	// Objects of what does not allow all of this can't be followed and deleted.
	resources, err := reconcile.Offered(ctx, c.Client, gv, "get", "list", "watch", "delete")
	if err != nil {
		return err
	}
	served := map[schema.GroupVersionResource]bool{}
	for _, r := range resources {
		served[gv.WithResource(r.Name)] = true
	}
	c.dropService(name, func(r *resource) bool { return !served[r.api.GVR()] })
	for _, r := range resources {
		followed := c.defined(gv.WithKind(r.Kind), r.Name, r.Namespaced)
		followed.service = name
		c.follow(followed)
	}
	return nil
}

// dropService stops following the resources of an APIService that are gone. Another version of its group may serve them still.
func (c *controller) dropService(name string, isGone func(r *resource) bool) {
	var gone []*resource
	c.mu.Lock()
	for _, r := range c.resources {
		if r.service == name && isGone(r) {
			gone = append(gone, r)
		}
	}
	c.mu.Unlock()
	for _, r := range gone {
		c.drop(r)
	}
	if len(gone) == 0 {
		return
	}
	for svc := range c.services.All() {
		if svc.Spec.Service != nil && svc.Spec.Group == gone[0].gvk.Group {
			c.loop.Enqueue(reconcile.Key{Namespace: discover, Name: svc.Name})
		}
	}
}
