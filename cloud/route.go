// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// routePeriod is how often routes are compared with the cloud's: nobody tells when one was removed there.
const routePeriod = 5 * time.Minute

type routes struct {
	reconcile.Scope
	nodes  *client.Informer[*corev1.Node]
	api    client.Resource[*corev1.Node]
	routes Routes
}

// newRoutes makes the loop that leads pod ranges to their nodes. It has one key: all routes are compared at once.
func newRoutes(scope reconcile.Scope, provider Routes) *reconcile.Loop {
	c := &routes{Scope: scope, nodes: client.InformerFor[*corev1.Node](scope.Informers), api: client.Of[*corev1.Node](scope.Client), routes: provider}
	loop := reconcile.New(reconcile.Config{Name: "route-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile})
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add:    func(*corev1.Node) { loop.Enqueue(reconcile.Key{}) },
		Delete: func(*corev1.Node) { loop.Enqueue(reconcile.Key{}) },
		Update: func(old, node *corev1.Node) {
			if !slices.Equal(old.Spec.PodCIDRs, node.Spec.PodCIDRs) || !slices.Equal(old.Status.Addresses, node.Status.Addresses) {
				loop.Enqueue(reconcile.Key{})
			}
		},
	})
	return loop
}

func (c *routes) reconcile(ctx context.Context, _ reconcile.Key) error {
	have, err := c.routes.List(ctx)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	wanted := map[string]string{} // range: node
	for node := range c.nodes.All() {
		for _, podRange := range node.Spec.PodCIDRs {
			wanted[podRange] = node.Name
		}
	}
	there := map[string]bool{}
	for _, route := range have {
		if node, ok := wanted[route.Destination]; ok && node == route.Node {
			there[route.Destination] = true
			continue
		}
		if err := c.routes.Delete(ctx, route); err != nil {
			errs = append(errs, fmt.Errorf("delete route %s: %w", route.Destination, err))
		}
	}
	for node := range c.nodes.All() {
		made := true
		for _, podRange := range node.Spec.PodCIDRs {
			if there[podRange] {
				continue
			}
			if err := c.routes.Create(ctx, Route{Node: node.Name, Addresses: node.Status.Addresses, Destination: podRange}); err != nil {
				made = false
				c.Events.Event(node, corev1.EventTypeWarning, "FailedToCreateRoute", "Could not create route %s for node %s: %v", podRange, node.Name, err)
				errs = append(errs, fmt.Errorf("create route %s: %w", podRange, err))
			}
		}
		if len(node.Spec.PodCIDRs) > 0 {
			errs = append(errs, c.report(ctx, node, made))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return reconcile.After(routePeriod)
}

// report tells by a condition whether a node's pods can be reached.
func (c *routes) report(ctx context.Context, node *corev1.Node, made bool) error {
	now := metav1.Now()
	want := corev1.NodeCondition{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "RouteCreated", Message: "RouteController created a route",
		LastTransitionTime: now, LastHeartbeatTime: now,
	}
	if !made {
		want.Status, want.Reason, want.Message = corev1.ConditionTrue, "NoRouteCreated", "RouteController failed to create a route"
	}
	next := node.DeepCopy()
	at := slices.IndexFunc(next.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == want.Type })
	switch {
	case at < 0:
		next.Status.Conditions = append(next.Status.Conditions, want)
	case next.Status.Conditions[at].Status == want.Status:
		return nil
	default:
		next.Status.Conditions[at] = want
	}
	if _, err := c.api.UpdateStatus(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("network condition of node %s: %w", node.Name, err)
	}
	return nil
}
