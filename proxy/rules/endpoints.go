// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/nft"
)

// endpoint is one address and port behind a service port.
type endpoint struct {
	at                          netip.AddrPort
	ready, serving, terminating bool
	local                       bool
	// unplaced endpoints name no node.
	unplaced  bool
	zoneHints []discoveryv1.ForZone
	nodeHints []discoveryv1.ForNode
}

func (e *endpoint) draining() bool { return e.serving && e.terminating }

// serviceOf returns the Service that a slice belongs to; ok is false for slices that are not for us.
func serviceOf(s *discoveryv1.EndpointSlice) (name types.NamespacedName, ok bool) {
	_, foreign := s.Labels[labelProxyName]
	_, headless := s.Labels[labelHeadless]
	owner := s.Labels[discoveryv1.LabelServiceName]
	return types.NamespacedName{Namespace: s.Namespace, Name: owner}, owner != "" && !foreign && !headless
}

func familyOf(t discoveryv1.AddressType) nft.Family {
	switch t {
	case discoveryv1.AddressTypeIPv4:
		return nft.IPv4
	case discoveryv1.AddressTypeIPv6:
		return nft.IPv6
	default:
		return 0
	}
}

// endpointsOf gathers a service port's endpoints from all slices, by address. An address that two slices list counts as ready if
// either says so: it may be moving between them.
func (c *Core) endpointsOf(s *service, p *servicePort) []endpoint {
	found := map[netip.AddrPort]endpoint{}
	for _, slice := range s.slices {
		if familyOf(slice.AddressType) != p.family {
			continue
		}
		number := portOf(slice, p)
		if number == 0 {
			continue
		}
		for i := range slice.Endpoints {
			for _, e := range c.parseEndpoint(&slice.Endpoints[i], number) {
				if old, ok := found[e.at]; !ok || e.ready && !old.ready {
					found[e.at] = e
				}
			}
		}
	}
	out := make([]endpoint, 0, len(found))
	for _, e := range found {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b endpoint) int { return a.at.Compare(b.at) })
	return out
}

// portOf returns the number of the slice's port that belongs to the service port, 0 if there is none.
func portOf(slice *discoveryv1.EndpointSlice, p *servicePort) uint16 {
	for i := range slice.Ports {
		port := &slice.Ports[i]
		name := ""
		if port.Name != nil {
			name = *port.Name
		}
		proto := nft.TCP
		if port.Protocol != nil {
			proto = protocolNumber(*port.Protocol)
		}
		if name == p.name && proto == p.proto && port.Port != nil {
			return uint16(*port.Port)
		}
	}
	return 0
}

// parseEndpoint returns the endpoint. Only the first of its addresses counts: consumers must not balance over the others.
func (c *Core) parseEndpoint(e *discoveryv1.Endpoint, port uint16) []endpoint {
	if len(e.Addresses) == 0 {
		return nil
	}
	addr, err := parseAddr(e.Addresses[0])
	if err != nil {
		return nil
	}
	out := endpoint{at: netip.AddrPortFrom(addr, port)}
	out.ready = e.Conditions.Ready == nil || *e.Conditions.Ready
	out.serving = e.Conditions.Serving == nil && out.ready || e.Conditions.Serving != nil && *e.Conditions.Serving
	out.terminating = e.Conditions.Terminating != nil && *e.Conditions.Terminating
	out.unplaced = e.NodeName == nil
	out.local = e.NodeName != nil && *e.NodeName == c.config.Node
	if e.Hints != nil {
		out.zoneHints, out.nodeHints = e.Hints.ForZones, e.Hints.ForNodes
	}
	return []endpoint{out}
}

// choice is which endpoints a service port may use, for traffic to anywhere and for traffic that must stay on the node.
type choice struct {
	cluster, local []endpoint
	// any is set when some endpoint, on whatever node, would answer: without one clients are refused rather than ignored.
	any bool
}

// choose applies topology and falls back to terminating endpoints that still serve when no ready one is left.
func (c *Core) choose(p *servicePort, all []endpoint) choice {
	var out choice
	if p.usesCluster() {
		near := c.topology(all)
		out.cluster = filter(all, func(e *endpoint) bool { return e.ready && near(e) })
		if len(out.cluster) == 0 {
			out.cluster = filter(all, (*endpoint).draining)
		}
		out.any = len(out.cluster) > 0
	}
	if p.usesLocal() {
		out.local = filter(all, func(e *endpoint) bool { return e.local && e.ready })
		if len(out.local) == 0 {
			out.local = filter(all, func(e *endpoint) bool { return e.local && e.draining() })
		}
		out.any = out.any || slices.ContainsFunc(all, func(e endpoint) bool { return e.ready || e.draining() })
	}
	return out
}

// topology returns which ready endpoints hints assign to this node: those hinted for the node if every endpoint carries node hints and
// one names it, else those hinted for its zone likewise, else all.
func (c *Core) topology(all []endpoint) func(*endpoint) bool {
	forNode := func(e *endpoint) bool {
		return slices.ContainsFunc(e.nodeHints, func(h discoveryv1.ForNode) bool { return h.Name == c.config.Node })
	}
	forZone := func(e *endpoint) bool {
		return slices.ContainsFunc(e.zoneHints, func(h discoveryv1.ForZone) bool { return h.Name == c.zone })
	}
	allNode, anyNode, allZone, anyZone := true, false, true, false
	for i := range all {
		e := &all[i]
		if !e.ready {
			continue
		}
		allNode = allNode && len(e.nodeHints) > 0
		allZone = allZone && len(e.zoneHints) > 0
		anyNode = anyNode || forNode(e)
		anyZone = anyZone || forZone(e)
	}
	switch {
	case allNode && anyNode:
		return forNode
	case allZone && anyZone:
		return forZone
	}
	return func(*endpoint) bool { return true }
}

func filter(list []endpoint, keep func(*endpoint) bool) []endpoint {
	var out []endpoint
	for i := range list {
		if keep(&list[i]) {
			out = append(out, list[i])
		}
	}
	return out
}

// arrange orders endpoints so that those which stay keep their positions: new ones fill the gaps, then the last ones do.
func arrange(prior []netip.AddrPort, now []endpoint) []netip.AddrPort {
	fresh := make(map[netip.AddrPort]bool, len(now))
	for i := range now {
		fresh[now[i].at] = true
	}
	out := make([]netip.AddrPort, len(now))
	taken := make([]bool, len(now))
	var moved []netip.AddrPort
	for i, at := range prior {
		switch {
		case !fresh[at]:
		case i < len(out):
			out[i], taken[i] = at, true
		default:
			moved = append(moved, at)
		}
		delete(fresh, at)
	}
	for i := range now {
		if fresh[now[i].at] {
			moved = append(moved, now[i].at)
		}
	}
	for i := range out {
		if !taken[i] {
			out[i], moved = moved[0], moved[1:]
		}
	}
	return out
}
