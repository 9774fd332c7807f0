// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/nft"
)

// Labels that hand a Service or EndpointSlice to another proxy, or to none.
const (
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless  = "service.kubernetes.io/headless"
)

// servicePort is one port of a Service in one address family, ready to be compiled.
type servicePort struct {
	family        nft.Family
	name          string
	proto         uint8
	internalLocal bool
	externalLocal bool
	// affinity is the session affinity's timeout in seconds; 0 means none.
	affinity int32
	fronts   []servedFront
	// clusterIP is kept to refuse ports that the Service does not have.
	clusterIP netip.Addr
}

// servedFront is a front with how it is to be treated.
type servedFront struct {
	front
	external bool
	// sources restricts who may use the front; empty means everybody.
	sources []netip.Prefix
}

func (p *servicePort) externallyReachable() bool {
	return slices.ContainsFunc(p.fronts, func(f servedFront) bool { return f.external })
}

func (p *servicePort) usesCluster() bool { return !p.internalLocal || p.externallyReachable() }

func (p *servicePort) usesLocal() bool {
	return p.internalLocal || p.externalLocal && p.externallyReachable()
}

// protocolNumber returns the number of a Service protocol, 0 for one that is not proxied.
func protocolNumber(p corev1.Protocol) uint8 {
	switch p {
	case corev1.ProtocolTCP, "":
		return nft.TCP
	case corev1.ProtocolUDP:
		return nft.UDP
	case corev1.ProtocolSCTP:
		return nft.SCTP
	}
	return 0
}

// skipped reports whether a Service has no cluster address of its own, belongs to another proxy, or is to be treated as headless.
func skipped(s *corev1.Service) bool {
	_, foreign := s.Labels[labelProxyName]
	_, headless := s.Labels[labelHeadless]
	return foreign || headless || s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone
}

// parseService lists a Service's ports per family with the fronts of each.
func parseService(s *corev1.Service, config Config) []servicePort {
	if skipped(s) {
		return nil
	}
	clusterIPs := s.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{s.Spec.ClusterIP}
	}
	var out []servicePort
	for _, text := range clusterIPs {
		ip, err := parseAddr(text)
		if err != nil {
			continue
		}
		for i := range s.Spec.Ports {
			if p, ok := parsePort(s, &s.Spec.Ports[i], ip, config); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

func parsePort(s *corev1.Service, port *corev1.ServicePort, clusterIP netip.Addr, config Config) (servicePort, bool) {
	p := servicePort{
		family: nft.Version(clusterIP), clusterIP: clusterIP, name: port.Name, proto: protocolNumber(port.Protocol),
		internalLocal: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		externalLocal: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		affinity:      affinityOf(s),
	}
	if p.proto == 0 {
		return p, false
	}
	add := func(addr netip.Addr, number int32, external bool, sources []netip.Prefix) {
		f := front{family: p.family, addr: addr, proto: p.proto, port: uint16(number)}
		p.fronts = append(p.fronts, servedFront{front: f, external: external, sources: sources})
	}
	add(clusterIP, port.Port, false, nil)
	for _, text := range s.Spec.ExternalIPs {
		if ip, err := parseAddr(text); err == nil && nft.Version(ip) == p.family {
			add(ip, port.Port, true, nil)
		}
	}
	for _, ip := range balancerAddrs(s, p.family) {
		add(ip, port.Port, true, sourceRanges(s, p.family, ip, config))
	}
	if port.NodePort != 0 {
		add(netip.Addr{}, port.NodePort, true, nil)
	}
	return p, len(p.fronts) > 0
}

// balancerAddrs returns the load balancer addresses whose packets arrive with the address as destination.
func balancerAddrs(s *corev1.Service, family nft.Family) []netip.Addr {
	var out []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy {
			continue
		}
		if ip, err := parseAddr(in.IP); err == nil && nft.Version(ip) == family {
			out = append(out, ip)
		}
	}
	return out
}

// sourceRanges returns who may use a load balancer address; nil means everybody.
func sourceRanges(s *corev1.Service, family nft.Family, vip netip.Addr, config Config) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || nft.Version(prefix.Addr()) != family {
			continue
		}
		if prefix.Bits() == 0 {
			return nil
		}
		out = append(out, prefix.Masked())
	}
	// A node that may use the address sends with the address itself as source when it is assigned locally.
	for _, node := range config.NodeAddresses {
		if slices.ContainsFunc(out, func(p netip.Prefix) bool { return p.Contains(node) }) {
			out = append(out, netip.PrefixFrom(vip, vip.BitLen()))
			break
		}
	}
	return disjoint(out)
}

// disjoint drops prefixes that others contain: the kernel refuses ranges that overlap.
func disjoint(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, p := range list {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(p) }) {
			out = append(out, p)
		}
	}
	return out
}

func affinityOf(s *corev1.Service) int32 {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return *c.ClientIP.TimeoutSeconds
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}

// healthPort returns a Service's health check node port, 0 if it has none.
func healthPort(s *corev1.Service) uint16 {
	if s == nil || s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return 0
	}
	return uint16(s.Spec.HealthCheckNodePort)
}

func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	return a.Unmap().WithZone(""), err
}
