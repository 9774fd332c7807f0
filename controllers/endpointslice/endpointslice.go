// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package endpointslice lists, in EndpointSlices, the pods behind every Service that selects pods.
package endpointslice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/endpoints"
)

// managedBy marks the slices of this controller.
const managedBy = "endpointslice-controller.k8s.io"

const byService = "service"

type controller struct {
	reconcile.Scope
	loop     *reconcile.Loop
	services *client.Informer[*corev1.Service]
	pods     *client.Informer[*corev1.Pod]
	nodes    *client.Informer[*corev1.Node]
	slices   *client.Informer[*discoveryv1.EndpointSlice]
	api      client.Resource[*discoveryv1.EndpointSlice]
	expected reconcile.Expectations
}

// New makes the loop; its keys are Services.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope:    scope,
		services: client.InformerFor[*corev1.Service](scope.Informers),
		pods:     client.InformerFor[*corev1.Pod](scope.Informers),
		nodes:    client.InformerFor[*corev1.Node](scope.Informers),
		slices:   client.InformerFor[*discoveryv1.EndpointSlice](scope.Informers),
		api:      client.Of[*discoveryv1.EndpointSlice](scope.Client),
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: "endpointslice-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.slices.AddIndex(byService, func(s *discoveryv1.EndpointSlice) []string {
		if s.Labels[discoveryv1.LabelManagedBy] != managedBy {
			return nil
		}
		return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
	})
	reconcile.Self(c.loop, c.services)
	reconcile.On(c.loop, c.pods, c.servicesOf)
	c.slices.Handle(client.Handler[*discoveryv1.EndpointSlice]{
		Add:    func(s *discoveryv1.EndpointSlice) { c.sliceSeen(s, true) },
		Update: func(_, s *discoveryv1.EndpointSlice) { c.sliceSeen(s, false) },
		Delete: func(s *discoveryv1.EndpointSlice) { c.sliceGone(s) },
	})
	reconcile.IndexNodes(c.pods)
	zoned := func(old, node *corev1.Node) {
		if old.Labels[corev1.LabelTopologyZone] != node.Labels[corev1.LabelTopologyZone] {
			for _, pod := range reconcile.OnNode(c.pods, node.Name) {
				c.loop.Enqueue(c.servicesOf(pod)...)
			}
		}
	}
	c.nodes.Handle(client.Handler[*corev1.Node]{Update: zoned, Add: func(node *corev1.Node) { zoned(&corev1.Node{}, node) }})
	return c.loop
}

func serviceOf(s *discoveryv1.EndpointSlice) (reconcile.Key, bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return reconcile.Key{Namespace: s.Namespace, Name: name}, name != "" && s.Labels[discoveryv1.LabelManagedBy] == managedBy
}

func (c *controller) sliceSeen(s *discoveryv1.EndpointSlice, added bool) {
	key, ours := serviceOf(s)
	if !ours {
		return
	}
	if added {
		c.expected.Created(key)
	}
	c.loop.Enqueue(key)
}

func (c *controller) sliceGone(s *discoveryv1.EndpointSlice) {
	if key, ours := serviceOf(s); ours {
		c.expected.Deleted(key, s.UID)
		c.loop.Enqueue(key)
	}
}

// servicesOf returns the Services whose selector matches a pod.
func (c *controller) servicesOf(pod *corev1.Pod) []reconcile.Key {
	var keys []reconcile.Key
	for _, svc := range c.services.List(pod.Namespace) {
		if endpoints.Selects(svc) && labels.Set(svc.Spec.Selector).AsSelectorPreValidated().Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.KeyOf(svc))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	svc, ok := c.services.Get(key.Namespace, key.Name)
	if !ok {
		c.expected.Forget(key)
		return c.deleteAll(ctx, key, c.slices.ByIndex(byService, key.String())) // the garbage collector would, later
	}
	if svc.DeletionTimestamp != nil || !endpoints.Selects(svc) {
		return nil
	}
	if !c.expected.Fulfilled(key) {
		return nil // our own writes are not seen yet; seeing them enqueues the key again
	}
	// After what is expected was looked at: a slice that is seen between the two would be made twice.
	existing := slices.DeleteFunc(c.slices.ByIndex(byService, key.String()), func(s *discoveryv1.EndpointSlice) bool { return s.DeletionTimestamp != nil })
	plan := endpoints.PlanSlices(existing, c.groups(svc))
	plan = c.addMetadataUpdates(svc, existing, plan)
	return c.carryOut(ctx, key, svc, plan)
}

// groups computes the wanted endpoints by address type and ports.
func (c *controller) groups(svc *corev1.Service) []endpoints.Group {
	selector := labels.Set(svc.Spec.Selector).AsSelectorPreValidated()
	byKey := map[string]*endpoints.Group{}
	var order []string
	get := func(family corev1.IPFamily, ports []discoveryv1.EndpointPort) *endpoints.Group {
		key := string(family) + endpoints.PortsKey(ports)
		if byKey[key] == nil {
			byKey[key] = &endpoints.Group{AddressType: discoveryv1.AddressType(family), Ports: ports}
			order = append(order, key)
		}
		return byKey[key]
	}
	members := c.pods.List(svc.Namespace)
	slices.SortFunc(members, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for _, family := range endpoints.Families(svc) {
		found := false
		for _, pod := range members {
			if !selector.Matches(labels.Set(pod.Labels)) || !endpoints.Eligible(pod) || endpoints.Address(pod, family) == "" {
				continue
			}
			ports := endpoints.Ports(svc, pod)
			if len(ports) == 0 && len(svc.Spec.Ports) > 0 {
				continue
			}
			found = true
			g := get(family, ports)
			g.Endpoints = append(g.Endpoints, endpoints.Of(svc, pod, family, c.zoneOf(pod)))
		}
		if !found {
			get(family, nil) // the placeholder that says: no endpoints
		}
	}
	groups := make([]endpoints.Group, 0, len(order))
	for _, key := range order {
		groups = append(groups, *byKey[key])
	}
	return groups
}

func (c *controller) zoneOf(pod *corev1.Pod) string {
	if node, ok := c.nodes.Get("", pod.Spec.NodeName); ok {
		return node.Labels[corev1.LabelTopologyZone]
	}
	return ""
}

// wantedLabels of a Service's slices: its own labels, and ours on top.
func wantedLabels(svc *corev1.Service) map[string]string {
	out := map[string]string{}
	for key, value := range svc.Labels {
		if key != corev1.IsHeadlessService && key != discoveryv1.LabelServiceName && key != discoveryv1.LabelManagedBy {
			out[key] = value
		}
	}
	out[discoveryv1.LabelServiceName] = svc.Name
	out[discoveryv1.LabelManagedBy] = managedBy
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out[corev1.IsHeadlessService] = ""
	}
	return out
}

// addMetadataUpdates completes the plan where only labels or the owner differ.
func (c *controller) addMetadataUpdates(svc *corev1.Service, existing []*discoveryv1.EndpointSlice, plan endpoints.Plan) endpoints.Plan {
	want := wantedLabels(svc)
	planned := map[string]bool{}
	for _, s := range slices.Concat(plan.Update, plan.Delete) {
		planned[s.Name] = true
	}
	for _, s := range existing {
		if !planned[s.Name] && (!maps.Equal(s.Labels, want) || !metav1.IsControlledBy(s, svc)) {
			plan.Update = append(plan.Update, s.DeepCopy())
		}
	}
	return plan
}

func (c *controller) carryOut(ctx context.Context, key reconcile.Key, svc *corev1.Service, plan endpoints.Plan) error {
	owner := *metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))
	dress := func(s *discoveryv1.EndpointSlice) {
		s.Labels, s.OwnerReferences = wantedLabels(svc), []metav1.OwnerReference{owner}
	}
	var errs []error
	for _, s := range plan.Create {
		s.Namespace, s.GenerateName = svc.Namespace, svc.Name+"-"
		dress(s)
		c.expected.ExpectCreates(key, 1)
		if _, err := c.api.Create(ctx, s); err != nil {
			c.expected.Created(key)
			if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				errs = append(errs, fmt.Errorf("create slice of %s: %w", key, err))
			}
		}
	}
	for _, s := range plan.Update {
		dress(s)
		if _, err := c.api.Update(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("update slice %s: %w", s.Name, err))
		}
	}
	err := errors.Join(append(errs, c.deleteAll(ctx, key, plan.Delete))...)
	if err != nil && !apierrors.IsConflict(err) {
		c.Events.Event(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service %s: %v", key, err)
	}
	return err
}

func (c *controller) deleteAll(ctx context.Context, key reconcile.Key, doomed []*discoveryv1.EndpointSlice) error {
	var errs []error
	for _, s := range doomed {
		c.expected.ExpectDeletes(key, s.UID)
		if err := c.api.Delete(ctx, s.Namespace, s.Name, metav1.DeleteOptions{}); err != nil {
			c.expected.Deleted(key, s.UID)
			if !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
