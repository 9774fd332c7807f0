// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package endpointslicemirroring copies Endpoints that users keep by hand, for Services that select no pods, into
// EndpointSlices, which is where the proxies look.
package endpointslicemirroring

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

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/endpoints"
)

// Names and bounds.
const (
	managedBy      = "endpointslicemirroring-controller.k8s.io"
	leaderElection = "control-plane.alpha.kubernetes.io/leader" // marks Endpoints that are only a lock
	mostPerSubset  = 1000
	byEndpoints    = "mirrored endpoints"
)

type controller struct {
	reconcile.Scope
	endpoints *client.Informer[*corev1.Endpoints]
	services  *client.Informer[*corev1.Service]
	slices    *client.Informer[*discoveryv1.EndpointSlice]
	api       client.Resource[*discoveryv1.EndpointSlice]
	expected  reconcile.Expectations
}

// New makes the loop; its keys are Endpoints, which share their names with Services.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, endpoints: client.InformerFor[*corev1.Endpoints](scope.Informers),
		services: client.InformerFor[*corev1.Service](scope.Informers),
		slices:   client.InformerFor[*discoveryv1.EndpointSlice](scope.Informers),
		api:      client.Of[*discoveryv1.EndpointSlice](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "endpointslice-mirroring-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.slices.AddIndex(byEndpoints, func(s *discoveryv1.EndpointSlice) []string {
		if key, ours := keyOf(s); ours {
			return []string{key.String()}
		}
		return nil
	})
	reconcile.Self(loop, c.endpoints)
	reconcile.Self(loop, c.services)
	wake := func(s *discoveryv1.EndpointSlice, note func(reconcile.Key)) {
		if key, ours := keyOf(s); ours {
			note(key)
			loop.Enqueue(key)
		}
	}
	c.slices.Handle(client.Handler[*discoveryv1.EndpointSlice]{
		Add:    func(s *discoveryv1.EndpointSlice) { wake(s, c.expected.Created) },
		Update: func(_, s *discoveryv1.EndpointSlice) { wake(s, func(reconcile.Key) {}) },
		Delete: func(s *discoveryv1.EndpointSlice) {
			wake(s, func(key reconcile.Key) { c.expected.Deleted(key, s.UID) })
		},
	})
	return loop
}

func keyOf(s *discoveryv1.EndpointSlice) (reconcile.Key, bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return reconcile.Key{Namespace: s.Namespace, Name: name}, name != "" && s.Labels[discoveryv1.LabelManagedBy] == managedBy
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	source, ok := c.endpoints.Get(key.Namespace, key.Name)
	if !ok || !c.mirrors(source) {
		c.expected.Forget(key)
		return c.remove(ctx, key, c.slices.ByIndex(byEndpoints, key.String()))
	}
	if !c.expected.Fulfilled(key) {
		return nil
	}
	// After what is expected was looked at: a slice that is seen between the two would be made twice.
	return c.bring(ctx, key, source, c.slices.ByIndex(byEndpoints, key.String()))
}

// mirrors reports whether Endpoints are for a Service that finds no pods itself.
func (c *controller) mirrors(e *corev1.Endpoints) bool {
	if e.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return false
	}
	if _, lock := e.Annotations[leaderElection]; lock {
		return false
	}
	svc, ok := c.services.Get(e.Namespace, e.Name)
	return ok && svc.Spec.Selector == nil
}

// bring makes the slices what the Endpoints say: one per address family and set of ports.
func (c *controller) bring(ctx context.Context, key reconcile.Key, source *corev1.Endpoints, existing []*discoveryv1.EndpointSlice) error {
	wanted, invalid, skipped := groups(source)
	if invalid > 0 {
		c.Events.Event(source, corev1.EventTypeWarning, "InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", invalid)
	}
	if skipped > 0 {
		c.Events.Event(source, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", mostPerSubset, invalid+skipped)
	}
	slices.SortFunc(existing, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	known := map[string]*discoveryv1.EndpointSlice{}
	var doomed []*discoveryv1.EndpointSlice
	for _, s := range existing {
		id := groupKey(s.AddressType, s.Ports)
		if _, want := wanted[id]; !want || known[id] != nil {
			doomed = append(doomed, s)
			continue
		}
		known[id] = s
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		slice := wanted[id]
		dress(slice, source)
		have := known[id]
		var err error
		switch {
		case have == nil && source.DeletionTimestamp != nil:
		case have == nil:
			c.expected.ExpectCreates(key, 1)
			if _, err = c.api.Create(ctx, slice); err != nil {
				c.expected.Created(key)
			}
		case !same(have, slice):
			next := have.DeepCopy()
			next.Endpoints, next.Ports, next.Labels = slice.Endpoints, slice.Ports, slice.Labels
			next.Annotations, next.OwnerReferences = slice.Annotations, slice.OwnerReferences
			_, err = c.api.Update(ctx, next)
		}
		if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			errs = append(errs, fmt.Errorf("mirror %s: %w", key, err))
		}
	}
	return errors.Join(append(errs, c.remove(ctx, key, doomed))...)
}

func (c *controller) remove(ctx context.Context, key reconcile.Key, doomed []*discoveryv1.EndpointSlice) error {
	var errs []error
	for _, s := range doomed {
		c.expected.ExpectDeletes(key, s.UID)
		if err := c.api.Delete(ctx, s.Namespace, s.Name, metav1.DeleteOptions{}); err != nil {
			c.expected.Deleted(key, s.UID)
			errs = append(errs, client.IgnoreNotFound(err))
		}
	}
	return errors.Join(errs...)
}

func same(a, b *discoveryv1.EndpointSlice) bool {
	return equal.Semantic(a.Endpoints, b.Endpoints) && equal.Semantic(a.Ports, b.Ports) &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) &&
		equal.Semantic(a.OwnerReferences, b.OwnerReferences)
}

// dress sets what a slice has from its source besides endpoints.
func dress(s *discoveryv1.EndpointSlice, source *corev1.Endpoints) {
	s.Namespace, s.GenerateName = source.Namespace, source.Name+"-"
	s.Labels, s.Annotations = map[string]string{}, map[string]string{}
	maps.Copy(s.Labels, source.Labels)
	maps.Copy(s.Annotations, source.Annotations)
	delete(s.Annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(s.Annotations, corev1.LastAppliedConfigAnnotation)
	s.Labels[discoveryv1.LabelServiceName], s.Labels[discoveryv1.LabelManagedBy] = source.Name, managedBy
	s.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(source, corev1.SchemeGroupVersion.WithKind("Endpoints"))}
}

func groupKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	return string(family) + " " + endpoints.PortsKey(ports)
}

// groups turns subsets into slices by address family and ports, and counts what had to be left out.
func groups(source *corev1.Endpoints) (wanted map[string]*discoveryv1.EndpointSlice, invalid, skipped int) {
	wanted = map[string]*discoveryv1.EndpointSlice{}
	for i := range source.Subsets {
		subset := &source.Subsets[i]
		ports := portsOf(subset)
		added := 0
		add := func(addresses []corev1.EndpointAddress, condition discoveryv1.EndpointConditions) {
			for j := range addresses {
				family := endpoints.FamilyOf(addresses[j].IP)
				switch {
				case added >= mostPerSubset:
					skipped++
					continue
				case family == "":
					invalid++
					continue
				}
				added++
				id := groupKey(discoveryv1.AddressType(family), ports)
				if wanted[id] == nil {
					wanted[id] = &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressType(family), Ports: ports}
				}
				insert(wanted[id], endpointOf(&addresses[j], condition))
			}
		}
		ready, not := true, false
		add(subset.Addresses, discoveryv1.EndpointConditions{Ready: &ready})
		add(subset.NotReadyAddresses, discoveryv1.EndpointConditions{Ready: &not})
	}
	return wanted, invalid, skipped
}

// insert adds an endpoint unless the slice has its address already: the ready one came first.
func insert(s *discoveryv1.EndpointSlice, e discoveryv1.Endpoint) {
	if !slices.ContainsFunc(s.Endpoints, func(known discoveryv1.Endpoint) bool { return known.Addresses[0] == e.Addresses[0] }) {
		s.Endpoints = append(s.Endpoints, e)
	}
}

func endpointOf(a *corev1.EndpointAddress, condition discoveryv1.EndpointConditions) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: condition, TargetRef: a.TargetRef.DeepCopy(), NodeName: a.NodeName}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

func portsOf(subset *corev1.EndpointSubset) []discoveryv1.EndpointPort {
	ports := make([]discoveryv1.EndpointPort, 0, len(subset.Ports))
	for _, p := range subset.Ports {
		name, port, protocol := p.Name, p.Port, p.Protocol
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &protocol, AppProtocol: p.AppProtocol})
	}
	return ports
}
