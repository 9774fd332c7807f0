// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package endpoints keeps the older Endpoints object of every Service that selects pods, for clients that do not read
// EndpointSlices.
package endpoints

import (
	"context"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/endpoints"
	"kogge.dev/kogge/rules/pods"
)

const (
	// maxAddresses bounds one Endpoints object; the rest is cut off and the object marked.
	maxAddresses = 1000
	overCapacity = "endpoints.kubernetes.io/over-capacity"
	managedBy    = "endpoints.kubernetes.io/managed-by"
	controllerID = "endpoint-controller"
)

type controller struct {
	reconcile.Scope
	services  *client.Informer[*corev1.Service]
	pods      *client.Informer[*corev1.Pod]
	endpoints *client.Informer[*corev1.Endpoints]
	api       client.Resource[*corev1.Endpoints]
}

// New makes the loop; its keys are Services.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, services: client.InformerFor[*corev1.Service](scope.Informers), pods: client.InformerFor[*corev1.Pod](scope.Informers),
		endpoints: client.InformerFor[*corev1.Endpoints](scope.Informers), api: client.Of[*corev1.Endpoints](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: controllerID, Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.services)
	reconcile.Self(loop, c.endpoints)
	reconcile.On(loop, c.pods, func(pod *corev1.Pod) []reconcile.Key {
		var keys []reconcile.Key
		for _, svc := range c.services.List(pod.Namespace) {
			if endpoints.Selects(svc) && labels.Set(svc.Spec.Selector).AsSelectorPreValidated().Matches(labels.Set(pod.Labels)) {
				keys = append(keys, reconcile.KeyOf(svc))
			}
		}
		return keys
	})
	return loop
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	known, exists := c.endpoints.Get(key.Namespace, key.Name)
	svc, ok := c.services.Get(key.Namespace, key.Name)
	if !ok {
		if !exists || known.Labels[managedBy] != controllerID {
			return nil
		}
		err := c.api.Delete(ctx, key.Namespace, key.Name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	if !endpoints.Selects(svc) {
		return nil
	}
	want := c.wanted(svc)
	if !exists {
		_, err := c.api.Create(ctx, want)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	if equal.Semantic(known.Subsets, want.Subsets) && maps.Equal(known.Labels, want.Labels) &&
		known.Annotations[overCapacity] == want.Annotations[overCapacity] {
		return nil
	}
	next := known.DeepCopy()
	next.Subsets, next.Labels = want.Subsets, want.Labels
	delete(next.Annotations, overCapacity)
	if want.Annotations[overCapacity] != "" {
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[overCapacity] = want.Annotations[overCapacity]
	}
	_, err := c.api.Update(ctx, next)
	return err
}

// wanted computes the whole object.
func (c *controller) wanted(svc *corev1.Service) *corev1.Endpoints {
	want := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name, Labels: map[string]string{}}}
	maps.Copy(want.Labels, svc.Labels)
	want.Labels[managedBy] = controllerID
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		want.Labels[corev1.IsHeadlessService] = ""
	} else {
		delete(want.Labels, corev1.IsHeadlessService)
	}
	family := endpoints.Families(svc)[0]
	selector := labels.Set(svc.Spec.Selector).AsSelectorPreValidated()
	members := slices.DeleteFunc(c.pods.List(svc.Namespace), func(p *corev1.Pod) bool {
		gone := p.DeletionTimestamp != nil && !svc.Spec.PublishNotReadyAddresses
		return gone || !selector.Matches(labels.Set(p.Labels)) || !endpoints.Eligible(p) || endpoints.Address(p, family) == ""
	})
	slices.SortFunc(members, func(a, b *corev1.Pod) int {
		return strings.Compare(endpoints.Address(a, family), endpoints.Address(b, family))
	})
	if len(members) > maxAddresses {
		want.Annotations = map[string]string{overCapacity: "truncated"}
		slices.SortStableFunc(members, func(a, b *corev1.Pod) int { return order(pods.IsReady(a)) - order(pods.IsReady(b)) })
		members = members[:maxAddresses]
	}
	byPorts := map[string]*corev1.EndpointSubset{}
	var keys []string
	for _, pod := range members {
		ports := portsOf(svc, pod)
		if len(ports) == 0 && len(svc.Spec.Ports) > 0 {
			continue
		}
		key := endpoints.PortsKey(endpoints.Ports(svc, pod))
		if byPorts[key] == nil {
			byPorts[key] = &corev1.EndpointSubset{Ports: ports}
			keys = append(keys, key)
		}
		address := addressOf(svc, pod, family)
		if svc.Spec.PublishNotReadyAddresses || pods.IsReady(pod) {
			byPorts[key].Addresses = append(byPorts[key].Addresses, address)
		} else {
			byPorts[key].NotReadyAddresses = append(byPorts[key].NotReadyAddresses, address)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		want.Subsets = append(want.Subsets, *byPorts[key])
	}
	return want
}

func order(ready bool) int {
	if ready {
		return 0
	}
	return 1
}

func addressOf(svc *corev1.Service, pod *corev1.Pod, family corev1.IPFamily) corev1.EndpointAddress {
	address := corev1.EndpointAddress{
		IP:        endpoints.Address(pod, family),
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		node := pod.Spec.NodeName
		address.NodeName = &node
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		address.Hostname = pod.Spec.Hostname
	}
	return address
}

func portsOf(svc *corev1.Service, pod *corev1.Pod) []corev1.EndpointPort {
	var ports []corev1.EndpointPort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if number, ok := endpoints.TargetPort(pod, p); ok {
			ports = append(ports, corev1.EndpointPort{Name: p.Name, Port: number, Protocol: p.Protocol, AppProtocol: p.AppProtocol})
		}
	}
	slices.SortFunc(ports, func(a, b corev1.EndpointPort) int { return strings.Compare(a.Name, b.Name) })
	return ports
}
