// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
)

const (
	// cleanup keeps a Service until its load balancer is gone.
	cleanup = "service.kubernetes.io/load-balancer-cleanup"
	// leaving is the taint of nodes that the cluster autoscaler is about to remove.
	leaving = "ToBeDeletedByClusterAutoscaler"
)

type services struct {
	reconcile.Scope
	loop      *reconcile.Loop
	services  *client.Informer[*corev1.Service]
	nodes     *client.Informer[*corev1.Node]
	api       client.Resource[*corev1.Service]
	balancers LoadBalancers

	mu sync.Mutex
	// ensured is what was asked for last, so that users are told about their own changes and not about every look.
	ensured map[reconcile.Key]*corev1.Service
}

// newServices makes the loop that has load balancers made for Services. It has one worker, so that a provider sees
// one Service at a time.
func newServices(scope reconcile.Scope, balancers LoadBalancers) *reconcile.Loop {
	c := &services{
		Scope: scope, services: client.InformerFor[*corev1.Service](scope.Informers), nodes: client.InformerFor[*corev1.Node](scope.Informers),
		api: client.Of[*corev1.Service](scope.Client), balancers: balancers, ensured: map[reconcile.Key]*corev1.Service{},
	}
	c.loop = reconcile.New(reconcile.Config{Name: "service-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile})
	c.services.Handle(client.Handler[*corev1.Service]{
		Add: func(s *corev1.Service) {
			if c.wants(s) || slices.Contains(s.Finalizers, cleanup) {
				c.loop.Enqueue(reconcile.KeyOf(s))
			}
		},
		Update: func(old, s *corev1.Service) {
			if c.wants(old) || c.wants(s) || slices.Contains(s.Finalizers, cleanup) {
				c.loop.Enqueue(reconcile.KeyOf(s))
			}
			if len(old.Status.LoadBalancer.Ingress) > len(s.Status.LoadBalancer.Ingress) {
				c.wakeWaiting()
			}
		},
		Delete: func(s *corev1.Service) {
			if c.wants(s) {
				c.loop.Enqueue(reconcile.KeyOf(s))
				c.wakeWaiting()
			}
		},
	})
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add:    func(*corev1.Node) { c.wakeAll() },
		Delete: func(*corev1.Node) { c.wakeAll() },
		Update: func(old, node *corev1.Node) {
			if usable(old) != usable(node) || !equal.Semantic(old.Status.Addresses, node.Status.Addresses) || old.Spec.ProviderID != node.Spec.ProviderID {
				c.wakeAll()
			}
		},
	})
	// Where endpoints are matters to Services that keep to the node that was reached.
	reconcile.On(c.loop, client.InformerFor[*discoveryv1.EndpointSlice](scope.Informers), func(slice *discoveryv1.EndpointSlice) []reconcile.Key {
		key := reconcile.Key{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		s, ok := c.services.Get(key.Namespace, key.Name)
		if !ok || !c.wants(s) || s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			return nil
		}
		return []reconcile.Key{key}
	})
	return c.loop
}

func (c *services) wakeAll() {
	for s := range c.services.All() {
		if c.wants(s) {
			c.loop.Enqueue(reconcile.KeyOf(s))
		}
	}
}

// wakeWaiting wakes Services without an address: one may have become free.
func (c *services) wakeWaiting() {
	for s := range c.services.All() {
		if c.wants(s) && len(s.Status.LoadBalancer.Ingress) == 0 {
			c.loop.Enqueue(reconcile.KeyOf(s))
		}
	}
}

// wants reports whether a Service asks this provider for a load balancer.
func (c *services) wants(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.DeletionTimestamp == nil &&
		(s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == c.balancers.Class())
}

// usable reports whether load balancers may lead to a node.
func usable(node *corev1.Node) bool {
	if value, ok := node.Labels[corev1.LabelNodeExcludeBalancers]; ok {
		if exclude, err := strconv.ParseBool(value); exclude || err != nil {
			return false
		}
	}
	return isReady(node) && node.DeletionTimestamp == nil && !hasTaint(node, leaving)
}

func (c *services) reconcile(ctx context.Context, key reconcile.Key) error {
	s, ok := c.services.Get(key.Namespace, key.Name)
	if !ok {
		c.forget(key)
		return nil
	}
	var err error
	switch {
	case c.wants(s):
		err = c.ensure(ctx, s)
	case slices.Contains(s.Finalizers, cleanup):
		err = c.delete(ctx, s)
	}
	if client.IgnoreNotFound(err) != nil {
		c.Events.Event(s, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: %v", err)
		return err
	}
	return nil
}

func (c *services) forget(key reconcile.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ensured, key)
}

func (c *services) ensure(ctx context.Context, s *corev1.Service) error {
	key := reconcile.KeyOf(s)
	c.mu.Lock()
	before := c.ensured[key]
	c.mu.Unlock()
	asked := before == nil || before.UID != s.UID || !equal.Semantic(before.Spec, s.Spec) ||
		!equal.Semantic(before.Annotations, s.Annotations)
	if asked {
		c.Events.Event(s, corev1.EventTypeNormal, "EnsuringLoadBalancer", "Ensuring load balancer")
	}
	if !slices.Contains(s.Finalizers, cleanup) {
		next := s.DeepCopy()
		next.Finalizers = append(next.Finalizers, cleanup)
		stored, err := c.api.Update(ctx, next)
		if err != nil {
			return fmt.Errorf("failed to add load balancer cleanup finalizer: %w", err)
		}
		s = stored
	}
	var ready []*corev1.Node
	for node := range c.nodes.All() {
		if usable(node) {
			ready = append(ready, node)
		}
	}
	slices.SortFunc(ready, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	if len(ready) == 0 && asked {
		c.Events.Event(s, corev1.EventTypeWarning, "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer")
	}
	status, err := c.balancers.Ensure(ctx, s, ready)
	if err != nil {
		return fmt.Errorf("failed to ensure load balancer: %w", err)
	}
	changed, err := c.setStatus(ctx, s, status)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.ensured[key] = s
	c.mu.Unlock()
	switch {
	case asked:
		c.Events.Event(s, corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer")
	case changed:
		c.Events.Event(s, corev1.EventTypeNormal, "UpdatedLoadBalancer", "Updated load balancer with new hosts")
	}
	return nil
}

func (c *services) setStatus(ctx context.Context, s *corev1.Service, status corev1.LoadBalancerStatus) (bool, error) {
	if equal.Semantic(s.Status.LoadBalancer, status) {
		return false, nil
	}
	next := s.DeepCopy()
	next.Status.LoadBalancer = status
	if _, err := c.api.UpdateStatus(ctx, next); err != nil {
		return false, fmt.Errorf("failed to update load balancer status: %w", err)
	}
	return true, nil
}

// delete removes the load balancer of a Service that goes, or is of another type now.
func (c *services) delete(ctx context.Context, s *corev1.Service) error {
	c.Events.Event(s, corev1.EventTypeNormal, "DeletingLoadBalancer", "Deleting load balancer")
	if err := c.balancers.Delete(ctx, s); err != nil {
		return fmt.Errorf("failed to delete load balancer: %w", err)
	}
	if s.DeletionTimestamp == nil {
		if _, err := c.setStatus(ctx, s, corev1.LoadBalancerStatus{}); err != nil {
			return err
		}
	}
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"$deleteFromPrimitiveList/finalizers":[%q]}}`, s.UID, cleanup)
	if _, err := c.api.Patch(ctx, s.Namespace, s.Name, types.StrategicMergePatchType, patch); err != nil {
		return fmt.Errorf("failed to remove load balancer cleanup finalizer: %w", err)
	}
	c.forget(reconcile.KeyOf(s))
	c.Events.Event(s, corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer")
	return nil
}
