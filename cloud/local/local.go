// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package local is the cloud provider of clusters that have no cloud. It gives a Service of type LoadBalancer an address
// that the cluster answers itself: that of a ready node or, where one is configured, one from a pool that the network
// around the cluster leads to its nodes. kube-proxy on the nodes does the rest.
//
// One address and port belongs to one Service. Routes are no business of this provider: the nodes make those to each
// other's pods themselves.
package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cloud"
)

// Name of the provider, and what its provider IDs begin with.
const Name = "kogge"

// Class is the provider's loadBalancerClass.
const Class = "kogge.dev/local"

// Range of node ports, which every node answers on all its addresses.
const firstNodePort, lastNodePort = 30000, 32767

// Config of the provider.
type Config struct {
	// Informers may read services and endpointslices; required.
	Informers *client.Informers
	// Pool are ranges to take addresses from; empty means the addresses of the nodes.
	Pool []netip.Prefix
	// Reserved are TCP ports of the nodes that no Service may take on a node's address, besides those that every node needs.
	Reserved []int32
}

// ports that a node can't be managed without: SSH, etcd, kubelet, kube-proxy's health.
func (c *Config) reserved(port int32) bool {
	switch port {
	case 22, 2379, 2380, 10250, 10256, 10257, 10258, 10259:
		return true
	}
	return slices.Contains(c.Reserved, port)
}

type provider struct {
	config   Config
	services *client.Informer[*corev1.Service]
	slices   *client.Informer[*discoveryv1.EndpointSlice]
	// given is what was handed out and may not be in the informer's view yet. Only the service loop's one worker uses it.
	given map[string][]corev1.LoadBalancerIngress
}

// slicesOfService indexes EndpointSlices.
const slicesOfService = "slices by service"

// New makes the provider.
func New(config Config) (cloud.Provider, error) {
	if config.Informers == nil {
		return cloud.Provider{}, errors.New("local cloud: informers are required")
	}
	p := &provider{
		config: config, services: client.InformerFor[*corev1.Service](config.Informers),
		slices: client.InformerFor[*discoveryv1.EndpointSlice](config.Informers), given: map[string][]corev1.LoadBalancerIngress{},
	}
	p.slices.AddIndex(slicesOfService, func(s *discoveryv1.EndpointSlice) []string {
		return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
	})
	return cloud.Provider{Name: Name, Instances: p, LoadBalancers: p}, nil
}

var (
	_ cloud.Instances     = (*provider)(nil)
	_ cloud.LoadBalancers = (*provider)(nil)
)

// Instance names a node's machine after the node. Whether the machine still exists is not known here, so no node is ever
// said to be gone.
func (p *provider) Instance(_ context.Context, node *corev1.Node) (cloud.Instance, error) {
	return cloud.Instance{ProviderID: Name + "://" + node.Name}, nil
}

// Class implements cloud.LoadBalancers.
func (p *provider) Class() string { return Class }

// Delete implements cloud.LoadBalancers. What the Service had is free once its status or the Service is gone.
func (p *provider) Delete(_ context.Context, s *corev1.Service) error {
	delete(p.given, string(s.UID))
	return nil
}

// Ensure implements cloud.LoadBalancers. A Service keeps its address as long as that can serve it.
func (p *provider) Ensure(_ context.Context, s *corev1.Service, nodes []*corev1.Node) (corev1.LoadBalancerStatus, error) {
	taken := p.taken(s)
	var status corev1.LoadBalancerStatus
	for _, family := range s.Spec.IPFamilies {
		address, err := p.choose(s, family, nodes, taken)
		if err != nil {
			if len(status.Ingress) > 0 {
				break // dual stack is served by the family that there is
			}
			return status, err
		}
		mode := corev1.LoadBalancerIPModeVIP
		status.Ingress = append(status.Ingress, corev1.LoadBalancerIngress{IP: address.String(), IPMode: &mode})
	}
	p.given[string(s.UID)] = status.Ingress
	return status, nil
}

// front is what one Service can have.
type front struct {
	address  netip.Addr
	protocol corev1.Protocol
	port     int32
}

// taken returns the fronts of all other Services, load balancers of any provider and external addresses alike.
func (p *provider) taken(self *corev1.Service) map[front]string {
	out := map[front]string{}
	for s := range p.services.All() {
		if s.UID == self.UID {
			continue
		}
		ingress := s.Status.LoadBalancer.Ingress
		if given, ok := p.given[string(s.UID)]; ok {
			ingress = given
		}
		var texts []string
		for _, in := range ingress {
			texts = append(texts, in.IP)
		}
		for _, text := range append(texts, s.Spec.ExternalIPs...) {
			address, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			for _, port := range s.Spec.Ports {
				out[front{address, port.Protocol, port.Port}] = s.Namespace + "/" + s.Name
			}
		}
	}
	return out
}

// choose returns the address of one family that a Service gets.
func (p *provider) choose(s *corev1.Service, family corev1.IPFamily, nodes []*corev1.Node, taken map[front]string) (netip.Addr, error) {
	candidates := p.candidates(s, family, nodes)
	if len(candidates) == 0 {
		if len(p.config.Pool) == 0 {
			return netip.Addr{}, fmt.Errorf("no ready node has an %s address", family)
		}
		return netip.Addr{}, fmt.Errorf("the address pool has no %s address", family)
	}
	if wish := s.Spec.LoadBalancerIP; wish != "" { // deprecated, and still what users ask with
		address, err := netip.ParseAddr(wish)
		if err == nil && (address.Is4() == (family == corev1.IPv4Protocol)) {
			if !slices.Contains(candidates, address) {
				return netip.Addr{}, fmt.Errorf("requested address %s is not one that this cluster can give", wish)
			}
			candidates = []netip.Addr{address}
		}
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		if address, err := netip.ParseAddr(in.IP); err == nil && slices.Contains(candidates, address) && p.conflict(s, address, taken) == nil {
			return address, nil
		}
	}
	load := map[netip.Addr]int{}
	for f := range taken {
		load[f.address]++
	}
	var best netip.Addr
	var refusal error
	for _, address := range candidates {
		if err := p.conflict(s, address, taken); err != nil {
			refusal = err
			continue
		}
		if !best.IsValid() || load[address] < load[best] {
			best = address
		}
	}
	if !best.IsValid() {
		return best, refusal
	}
	return best, nil
}

// conflict returns why a Service can't have an address.
func (p *provider) conflict(s *corev1.Service, address netip.Addr, taken map[front]string) error {
	for _, port := range s.Spec.Ports {
		if len(p.config.Pool) == 0 {
			if port.Protocol == corev1.ProtocolTCP && p.config.reserved(port.Port) {
				return fmt.Errorf("port %d is used by the nodes themselves", port.Port)
			}
			if port.Port >= firstNodePort && port.Port <= lastNodePort {
				return fmt.Errorf("port %d is in the range of node ports", port.Port)
			}
		}
		if other, is := taken[front{address, port.Protocol, port.Port}]; is {
			return fmt.Errorf("port %d/%s is taken by service %s on every address", port.Port, port.Protocol, other)
		}
	}
	return nil
}

// maxPool bounds how many addresses of a range are looked at.
const maxPool = 1 << 16

// candidates returns the addresses of a family that could serve a Service: of nodes that have endpoints first, where
// traffic must not leave the node.
func (p *provider) candidates(s *corev1.Service, family corev1.IPFamily, nodes []*corev1.Node) []netip.Addr {
	v4 := family == corev1.IPv4Protocol
	var out []netip.Addr
	for _, r := range p.config.Pool {
		if r.Addr().Is4() != v4 {
			continue
		}
		for a, n := r.Masked().Addr(), 0; r.Contains(a) && n < maxPool; a, n = a.Next(), n+1 {
			out = append(out, a)
		}
	}
	if len(p.config.Pool) > 0 {
		return out
	}
	var near []netip.Addr
	with := p.nodesOf(s)
	for _, node := range nodes {
		address, ok := addressOf(node, v4)
		if !ok {
			continue
		}
		out = append(out, address)
		if with[node.Name] {
			near = append(near, address)
		}
	}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && len(near) > 0 {
		return near
	}
	return out
}

// addressOf returns a node's address of a family, an external one if it has one.
func addressOf(node *corev1.Node, v4 bool) (netip.Addr, bool) {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		for _, a := range node.Status.Addresses {
			if address, err := netip.ParseAddr(a.Address); err == nil && a.Type == kind && address.Is4() == v4 {
				return address, true
			}
		}
	}
	return netip.Addr{}, false
}

// nodesOf returns the nodes that have ready endpoints of a Service.
func (p *provider) nodesOf(s *corev1.Service) map[string]bool {
	out := map[string]bool{}
	for _, slice := range p.slices.ByIndex(slicesOfService, s.Namespace+"/"+s.Name) {
		for _, e := range slice.Endpoints {
			if e.NodeName != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				out[*e.NodeName] = true
			}
		}
	}
	return out
}
