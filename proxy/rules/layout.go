// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"time"

	"kogge.dev/kogge/nft"
)

// MasqueradeMark is the packet mark bit between choosing an endpoint and leaving the host. It is the bit that kube-proxy uses, which
// other network software leaves alone.
const MasqueradeMark = 0x4000

// priorityFirewall puts refusals before destination NAT and after connection tracking.
const priorityFirewall = nft.PriorityDstNAT - 10

// affinitySize bounds the clients remembered per family.
const affinitySize = 1 << 18

// layout is what differs between the address families. Keys are laid out from register 0: the address takes width registers, then
// come protocol and port.
type layout struct {
	family   nft.Family
	suffix   string
	addr     nft.Type
	src, dst nft.Field
	width    nft.Reg
	zero     netip.Addr
	loopback netip.Prefix
}

func layouts() []layout {
	return []layout{
		{nft.IPv4, "4", nft.Addr4, nft.Src4, nft.Dst4, 1, netip.IPv4Unspecified(), netip.MustParsePrefix("127.0.0.0/8")},
		{nft.IPv6, "6", nft.Addr6, nft.Src6, nft.Dst6, 4, netip.IPv6Unspecified(), netip.MustParsePrefix("::1/128")},
	}
}

func layoutOf(f nft.Family) layout {
	if f == nft.IPv4 {
		return layouts()[0]
	}
	return layouts()[1]
}

// Names of the sets, without the family's suffix.
const (
	setFronts     = "fronts"     // front -> where to go
	setIDs        = "ids"        // front -> identifier of its endpoints
	setInside     = "inside"     // front with local policy -> where its own cluster's packets go
	setOutside    = "outside"    // front with local policy -> where others' packets go
	setBlocked    = "blocked"    // front without endpoints -> refusal
	setGuarded    = "guarded"    // fronts with source ranges
	setSources    = "sources"    // front . allowed sources
	setEndpoints  = "endpoints"  // identifier . index -> address . port
	setLive       = "live"       // identifier . address . port, where there is affinity
	setAffinity   = "affinity"   // client . identifier -> address . port, filled by packets
	setHairpin    = "hairpin"    // endpoint . endpoint, for those that may meet themselves
	setClusterIPs = "clusterips" // addresses of which only some ports exist
	setPods       = "pods"       // pod ranges
	setNodePorts  = "nodeaddrs"  // addresses that answer on node ports, if restricted
)

func (l layout) front() []nft.Type { return []nft.Type{l.addr, nft.Proto, nft.Service} }

func (l layout) sets(config Config) []nft.Set {
	front, target, jump := l.front(), []nft.Type{l.addr, nft.Service}, []nft.Type{nft.Jump}
	out := []nft.Set{
		{Name: setFronts, Key: front, Data: jump},
		{Name: setIDs, Key: front, Data: []nft.Type{nft.Number}},
		{Name: setInside, Key: front, Data: jump},
		{Name: setOutside, Key: front, Data: jump},
		{Name: setBlocked, Key: front, Data: jump},
		{Name: setGuarded, Key: front},
		{Name: setSources, Key: append(l.front(), l.addr), Interval: true},
		{Name: setEndpoints, Key: []nft.Type{nft.Number, nft.Number}, Data: target},
		{Name: setLive, Key: []nft.Type{nft.Number, l.addr, nft.Service}},
		{Name: setAffinity, Key: []nft.Type{l.addr, nft.Number}, Data: target, Dynamic: true, Size: affinitySize},
		{Name: setHairpin, Key: []nft.Type{l.addr, l.addr}},
		{Name: setClusterIPs, Key: []nft.Type{l.addr}},
		{Name: setPods, Key: []nft.Type{l.addr}, Interval: true},
	}
	if len(config.NodePortCIDRs) > 0 {
		out = append(out, nft.Set{Name: setNodePorts, Key: []nft.Type{l.addr}, Interval: true})
	}
	for i := range out {
		out[i].Name += l.suffix
	}
	return out
}

// AffinitySets returns the shapes of the sets that packets fill, which a restart should carry over.
func AffinitySets() []*nft.Set {
	var out []*nft.Set
	for _, l := range layouts() {
		for _, s := range l.sets(Config{}) {
			if s.Dynamic {
				out = append(out, &s)
			}
		}
	}
	return out
}

// Fixed chains.
const (
	chainServices    = "services"
	chainFirewall    = "firewall"
	chainReject      = "reject"
	chainOutsiders   = "outsiders"
	chainLocal       = "local"
	chainClusterOnly = "cluster-ips"
)

// skeleton is the table without any Service.
func (c *Core) skeleton() *nft.Table {
	t := nft.NewTable(TableName)
	for _, l := range layouts() {
		for _, s := range l.sets(c.config) {
			t.AddSet(s)
		}
		fill(t.Sets[setPods+l.suffix], c.config.PodCIDRs, l.family)
		if s := t.Sets[setNodePorts+l.suffix]; s != nil {
			fill(s, c.config.NodePortCIDRs, l.family)
		}
	}
	base := func(name string, hook nft.Hook, kind nft.Kind, priority int32, rules ...nft.Rule) {
		t.AddChain(nft.Chain{Name: name, Hook: hook, Kind: kind, Priority: priority, Rules: rules})
	}
	isNew := nft.LacksBits(nft.CTState, nft.StateNew)
	old := nft.Rule{Ops: nft.Program(isNew, nft.DoAccept()), Comment: "connections under way"}
	base("firewall-in", nft.Prerouting, nft.Filter, priorityFirewall, old, rule("", nft.DoJump(chainFirewall)))
	base("firewall-out", nft.Output, nft.Filter, priorityFirewall, old, rule("", nft.DoJump(chainFirewall)))
	base("nat-in", nft.Prerouting, nft.NAT, nft.PriorityDstNAT, rule("", nft.DoJump(chainServices)))
	base("nat-out", nft.Output, nft.NAT, nft.PriorityDstNAT, rule("", nft.DoJump(chainServices)))
	base("nat-post", nft.Postrouting, nft.NAT, nft.PrioritySrcNAT, c.masqueradeRules()...)
	base("filter-forward", nft.Forward, nft.Filter, nft.PriorityFilter, old, rule("", nft.DoJump(chainClusterOnly)))
	base("filter-out", nft.Output, nft.Filter, nft.PriorityFilter, old, rule("", nft.DoJump(chainClusterOnly)))

	t.AddChain(nft.Chain{Name: chainReject, Rules: []nft.Rule{
		rule("", nft.Is(nft.L4Proto, nft.ProtoValue(nft.TCP)), nft.Do(nft.Reject{Kind: nft.TCPReset})),
		rule("", nft.Do(nft.Reject{Kind: nft.PortUnreachable})),
	}})
	t.AddChain(nft.Chain{Name: chainServices, Rules: c.serviceRules()})
	t.AddChain(nft.Chain{Name: chainFirewall, Rules: c.firewallRules()})
	t.AddChain(nft.Chain{Name: chainClusterOnly, Rules: clusterOnlyRules()})
	t.AddChain(nft.Chain{Name: chainOutsiders, Rules: c.outsiderRules()})
	for _, l := range layouts() {
		for _, of := range []scope{ofAddress, ofNode} {
			t.AddChain(nft.Chain{Name: localChain(l.family, of), Rules: c.localRules(l, of)})
		}
	}
	return t
}

func fill(s *nft.Set, prefixes []netip.Prefix, family nft.Family) {
	for _, p := range disjoint(append([]netip.Prefix(nil), prefixes...)) {
		if nft.Version(p.Addr()) == family {
			first, last := nft.Prefix(p)
			s.Put(nft.Element{Key: first, End: last})
		}
	}
}

func rule(comment string, parts ...[]nft.Op) nft.Rule {
	return nft.Rule{Ops: nft.Program(parts...), Comment: comment}
}

// scope is which fronts a packet is looked up among.
type scope uint8

const (
	ofAddress scope = iota // those of its destination
	ofNode                 // node ports
)

// key loads the front that a packet is for: its destination or, for node ports, the zero address in place of it.
func (l layout) key(of scope) []nft.Op {
	if of == ofAddress {
		return nft.LoadKey(0, l.dst, nft.L4Proto, nft.DstPort)
	}
	return nft.Program(nft.Do(nft.Const{Reg: 0, Value: nft.AddrValue(l.zero)}), nft.LoadKey(l.width, nft.L4Proto, nft.DstPort))
}

// toNode holds for packets to an address of this node that answers on node ports.
func (c *Core) toNode(l layout) []nft.Op {
	if len(c.config.NodePortCIDRs) > 0 {
		return nft.Program(nft.IsFamily(l.family), nft.LoadKey(0, l.dst), nft.Do(nft.Member{Set: setNodePorts + l.suffix, Key: 0}), nft.IsLocal(nft.DstType))
	}
	first, last := nft.Prefix(l.loopback)
	mask := make([]byte, len(first))
	for i := range mask {
		mask[i] = ^(first[i] ^ last[i])
	}
	return nft.Program(nft.IsFamily(l.family), nft.IsLocal(nft.DstType), nft.LoadKey(0, l.dst), nft.Do(
		nft.Bits{From: 0, To: 0, Mask: mask, Xor: make([]byte, len(mask))},
		nft.Compare{Reg: 0, Not: true, Value: first},
	))
}

func (c *Core) serviceRules() []nft.Rule {
	var out []nft.Rule
	for _, l := range layouts() {
		out = append(out, rule("service addresses", nft.IsFamily(l.family), l.key(ofAddress), nft.Do(nft.Dispatch{Map: setFronts + l.suffix, Key: 0})))
	}
	for _, l := range layouts() {
		out = append(out, rule("node ports", c.toNode(l), l.key(ofNode), nft.Do(nft.Dispatch{Map: setFronts + l.suffix, Key: 0})))
	}
	return out
}

func (c *Core) firewallRules() []nft.Rule {
	var out []nft.Rule
	for _, l := range layouts() {
		out = append(out,
			rule("load balancer source ranges", nft.IsFamily(l.family), l.key(ofAddress), nft.Do(nft.Member{Set: setGuarded + l.suffix, Key: 0}),
				nft.LoadKey(l.width+2, l.src), nft.Do(nft.Member{Set: setSources + l.suffix, Key: 0, Not: true}), nft.DoDrop()),
			rule("services without endpoints", nft.IsFamily(l.family), l.key(ofAddress), nft.Do(nft.Dispatch{Map: setBlocked + l.suffix, Key: 0})),
			rule("node ports without endpoints", c.toNode(l), l.key(ofNode), nft.Do(nft.Dispatch{Map: setBlocked + l.suffix, Key: 0})),
		)
	}
	return out
}

// clusterOnlyRules refuse what is still for a cluster address after NAT: the Service has no such port.
func clusterOnlyRules() []nft.Rule {
	var out []nft.Rule
	for _, l := range layouts() {
		out = append(out, rule("ports that the service does not have", nft.IsFamily(l.family), nft.LoadKey(0, l.dst),
			nft.Do(nft.Member{Set: setClusterIPs + l.suffix, Key: 0}), nft.DoGoto(chainReject)))
	}
	return out
}

// outsiderRules drop packets from elsewhere for a front whose local policy finds no endpoint here; this cluster's own pass.
func (c *Core) outsiderRules() []nft.Rule {
	out := []nft.Rule{rule("this host", nft.IsLocal(nft.SrcType), nft.DoReturn())}
	for _, l := range layouts() {
		out = append(out, rule("pods", l.fromPod(), nft.DoReturn()))
	}
	return append(out, rule("no endpoint on this node", nft.DoDrop()))
}

func (l layout) fromPod() []nft.Op {
	return nft.Program(nft.IsFamily(l.family), nft.LoadKey(0, l.src), nft.Do(nft.Member{Set: setPods + l.suffix, Key: 0}))
}

// localRules treat a front with local policy: packets of this cluster go to any endpoint, others to those of this node only and keep
// their source.
func (c *Core) localRules(l layout, of scope) []nft.Rule {
	inside := nft.Program(l.key(of), nft.Do(nft.Dispatch{Map: setInside + l.suffix, Key: 0}))
	return []nft.Rule{
		rule("pods", l.fromPod(), inside),
		rule("this host", nft.IsLocal(nft.SrcType), nft.AddMark(MasqueradeMark), inside),
		rule("others", l.key(of), nft.Do(nft.Dispatch{Map: setOutside + l.suffix, Key: 0})),
	}
}

func (c *Core) masqueradeRules() []nft.Rule {
	out := []nft.Rule{
		rule("to this host, from where answers come back anyway", nft.IsLocal(nft.DstType), nft.DoAccept()),
		rule("marked", nft.HasBits(nft.Mark, MasqueradeMark), nft.ClearMark(MasqueradeMark), nft.Do(nft.Masquerade{})),
	}
	for _, l := range layouts() {
		out = append(out, rule("endpoints that reached themselves", nft.IsFamily(l.family), nft.HasBits(nft.CTStatus, nft.StatusDNAT),
			nft.LoadKey(0, l.src, l.dst), nft.Do(nft.Member{Set: setHairpin + l.suffix, Key: 0}, nft.Masquerade{})))
	}
	return out
}

func localChain(f nft.Family, of scope) string {
	name := chainLocal + layoutOf(f).suffix
	if of == ofNode {
		name += "n"
	}
	return name
}

// way is how a chain treats packets before it picks an endpoint.
type way byte

const (
	wayCluster  way = 'c' // masquerade what does not come from a pod
	wayExternal way = 'e' // masquerade all
	wayPlain    way = 'p' // masquerade nothing
	wayLocal    way = 'l' // masquerade nothing, pick among this node's endpoints
)

// chain names one of the chains that pick an endpoint. There is one per combination in use.
type chain struct {
	way    way
	family nft.Family
	of     scope
	// count of endpoints to pick from, at least 1.
	count int
	// affinity is a timeout in seconds; 0 means none.
	affinity int32
}

func (ch chain) String() string {
	s := string(ch.way) + layoutOf(ch.family).suffix
	if ch.of == ofNode {
		s += "n"
	}
	s += fmt.Sprintf("-%d", ch.count)
	if ch.affinity > 0 {
		s += fmt.Sprintf("-%ds", ch.affinity)
	}
	return s
}

// chainRules returns the program of a picking chain.
//
// Registers, where w is the width of an address: 0 to w+1 hold the front; without affinity the identifier follows at w+2 and the index
// at w+3. With affinity the client is at w+2, the identifier at 2w+2, and after it the endpoint (or the index) at 2w+3, so that
// (client, identifier), (identifier, index) and (identifier, address, port) are contiguous keys.
func (c *Core) chainRules(ch chain) []nft.Rule {
	l := layoutOf(ch.family)
	var out []nft.Rule
	switch {
	case ch.way == wayExternal || ch.way == wayCluster && c.config.MasqueradeAll:
		out = append(out, rule("", nft.AddMark(MasqueradeMark)))
	case ch.way == wayCluster && len(c.config.PodCIDRs) > 0:
		out = append(out, rule("not from a pod", nft.LoadKey(0, l.src), nft.Do(nft.Member{Set: setPods + l.suffix, Key: 0, Not: true}), nft.AddMark(MasqueradeMark)))
	}
	w := l.width
	if ch.affinity == 0 {
		return append(out, rule("", l.identify(ch, w+2), nft.Do(
			nft.Random{Reg: w + 3, Mod: uint32(ch.count)},
			nft.Get{Map: setEndpoints + l.suffix, Key: w + 2, Into: 0},
			nft.DestNAT{Family: l.family, Addr: 0, Port: w},
		)))
	}
	client, id, rest := w+2, 2*w+2, 2*w+3
	timeout := time.Duration(ch.affinity) * time.Second
	affinity, live := setAffinity+l.suffix, setLive+l.suffix
	start := nft.Program(l.identify(ch, id), nft.LoadKey(client, l.src))
	return append(out,
		rule("known client", start, nft.Do(
			nft.Get{Map: affinity, Key: client, Into: rest},
			nft.Member{Set: live, Key: id},
			nft.Update{Set: affinity, Kind: nft.Refresh, Key: client, Data: rest, Timeout: timeout},
			nft.DestNAT{Family: l.family, Addr: rest, Port: rest + w},
		)),
		rule("its endpoint is gone", start, nft.Do(
			nft.Get{Map: affinity, Key: client, Into: rest},
			nft.Update{Set: affinity, Kind: nft.Forget, Key: client, Data: rest},
		)),
		rule("new client", start, nft.Do(
			nft.Random{Reg: rest, Mod: uint32(ch.count)},
			nft.Get{Map: setEndpoints + l.suffix, Key: id, Into: 0},
			nft.Update{Set: affinity, Kind: nft.Refresh, Key: client, Data: 0, Timeout: timeout},
			nft.DestNAT{Family: l.family, Addr: 0, Port: w},
		)),
	)
}

// identify loads the identifier of the front's endpoints.
func (l layout) identify(ch chain, into nft.Reg) []nft.Op {
	ops := nft.Program(l.key(ch.of), nft.Do(nft.Get{Map: setIDs + l.suffix, Key: 0, Into: into}))
	if ch.way == wayLocal {
		ops = append(ops, nft.Bits{From: into, To: into, Mask: nft.NumberValue(^uint32(1)), Xor: nft.NumberValue(1)})
	}
	return ops
}
