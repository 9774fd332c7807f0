// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"net"
	"net/netip"

	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/nft"
)

// tableName is the nftables table of this package; nobody else touches it.
const tableName = "kogge-hostport"

// markMasquerade marks packets to a host port whose answer would miss this host: those of its own pods and of loopback.
// It is the bit that upstream's port mapping plugin uses, next to kube-proxy's.
const markMasquerade = 0x2000

// backend is one host port and the pod behind it.
type backend struct {
	// HostIP restricts the port to one address of the host; invalid for all of Pod's family.
	HostIP   netip.Addr
	HostPort uint16
	Protocol uint8
	Pod      netip.Addr
	PodPort  uint16
}

// rules is what the table is compiled from.
type rules struct {
	// Local are the node's pod ranges, Cluster those of all nodes.
	Local, Cluster []netip.Prefix
	Ports          []backend
}

// family holds what differs between IPv4 and IPv6.
type family struct {
	version  nft.Family
	suffix   string
	address  nft.Type
	src, dst nft.Field
	// words is the number of registers of an address.
	words nft.Reg
	// loopback and multicast ranges.
	loopback, multicast netip.Prefix
}

func families() []family {
	return []family{
		{nft.IPv4, "4", nft.Addr4, nft.Src4, nft.Dst4, 1, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4")},
		{nft.IPv6, "6", nft.Addr6, nft.Src6, nft.Dst6, 4, netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("ff00::/8")},
	}
}

func (f family) has(a netip.Addr) bool { return nft.Version(a) == f.version }

// compile makes the table. Its size does not depend on the number of ports; the ports are elements of maps.
//
//	prerouting, output -> hostports:  mark what must be masqueraded, DNAT by map, exact host address first
//	postrouting: masquerade what is marked; masquerade pods that leave the pod network
func compile(r rules) *nft.Table {
	t := nft.NewTable(tableName)
	ports := t.AddChain(nft.Chain{Name: "hostports"})
	post := t.AddChain(nft.Chain{Name: "postrouting", Hook: nft.Postrouting, Kind: nft.NAT, Priority: nft.PrioritySrcNAT})
	for name, hook := range map[string]nft.Hook{"prerouting": nft.Prerouting, "output": nft.Output} {
		c := t.AddChain(nft.Chain{Name: name, Hook: hook, Kind: nft.NAT, Priority: nft.PriorityDstNAT})
		c.Rules = append(c.Rules, nft.Rule{Comment: "host ports", Ops: nft.Program(nft.IsLocal(nft.DstType), nft.DoJump("hostports"))})
	}
	post.Rules = append(post.Rules, nft.Rule{
		Comment: "host ports of this host's own clients",
		Ops:     nft.Program(nft.HasBits(nft.Mark, markMasquerade), nft.ClearMark(markMasquerade), nft.Do(nft.Masquerade{})),
	})
	for _, f := range families() {
		f.addRanges(t, r)
		f.addPorts(t, r.Ports)
		ports.Rules = append(ports.Rules, f.portRules("ip-ports"+f.suffix, nft.Reg(0), f.dst)...)
		ports.Rules = append(ports.Rules, f.portRules("ports"+f.suffix, nft.Reg(0), 0)...)
		post.Rules = append(post.Rules, nft.Rule{
			Comment: "pods that leave the pod network",
			Ops: nft.Program(
				nft.IsFamily(f.version),
				nft.Do(nft.Load{Field: f.src, Reg: 0}, nft.Member{Set: "local" + f.suffix, Key: 0}),
				nft.Do(nft.Load{Field: f.dst, Reg: 0}, nft.Member{Set: "inside" + f.suffix, Key: 0, Not: true}),
				nft.Do(nft.Masquerade{}),
			),
		})
	}
	return t
}

// addRanges adds the sets of addresses of one family.
func (f family) addRanges(t *nft.Table, r rules) {
	set := func(name string, ranges ...netip.Prefix) {
		s := t.AddSet(nft.Set{Name: name + f.suffix, Key: []nft.Type{f.address}, Interval: true})
		for _, p := range disjoint(ranges) {
			if f.has(p.Addr()) {
				first, last := nft.Prefix(p)
				s.Put(nft.Element{Key: first, End: last})
			}
		}
	}
	set("local", r.Local...)
	set("inside", append([]netip.Prefix{f.multicast}, r.Cluster...)...)
	set("own", append([]netip.Prefix{f.loopback}, r.Local...)...)
}

// disjoint drops ranges that lie inside others: sets of ranges hold no overlaps.
func disjoint(ranges []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for i, p := range ranges {
		covered := false
		for j, o := range ranges {
			if i != j && o.Overlaps(p) && (o.Bits() < p.Bits() || o.Bits() == p.Bits() && j < i) {
				covered = true
			}
		}
		if !covered {
			out = append(out, p)
		}
	}
	return out
}

// addPorts fills the two maps of one family.
func (f family) addPorts(t *nft.Table, ports []backend) {
	data := []nft.Type{f.address, nft.Service}
	anyAddress := t.AddSet(nft.Set{Name: "ports" + f.suffix, Key: []nft.Type{nft.Proto, nft.Service}, Data: data})
	oneAddress := t.AddSet(nft.Set{Name: "ip-ports" + f.suffix, Key: []nft.Type{f.address, nft.Proto, nft.Service}, Data: data})
	for _, b := range ports {
		if !f.has(b.Pod) {
			continue
		}
		proto, port := nft.ProtoValue(b.Protocol), nft.PortValue(b.HostPort)
		to := nft.Concat(nft.AddrValue(b.Pod), nft.PortValue(b.PodPort))
		if b.HostIP.IsValid() {
			oneAddress.Put(nft.Element{Key: nft.Concat(nft.AddrValue(b.HostIP), proto, port), Data: to})
		} else {
			anyAddress.Put(nft.Element{Key: nft.Concat(proto, port), Data: to})
		}
	}
}

// portRules translates by one map: first the mark, then the address. prefix is the field before protocol and port in the
// key, if any.
func (f family) portRules(set string, at nft.Reg, prefix nft.Field) []nft.Rule {
	fields := []nft.Field{nft.L4Proto, nft.DstPort}
	width := nft.Reg(2)
	if prefix != 0 {
		fields = append([]nft.Field{prefix}, fields...)
		width += f.words
	}
	to := at + width
	find := nft.Program(nft.IsFamily(f.version), nft.LoadKey(at, fields...), nft.Do(nft.Get{Map: set, Key: at, Into: to}))
	return []nft.Rule{
		{Comment: "answers must come back this way", Ops: nft.Program(find,
			nft.Do(nft.Load{Field: f.src, Reg: 0}, nft.Member{Set: "own" + f.suffix, Key: 0}), nft.AddMark(markMasquerade))},
		{Ops: nft.Program(find, nft.Do(nft.DestNAT{Family: f.version, Addr: to, Port: to + f.words}))},
	}
}

// bridge is the node's bridge with its gateway addresses.
func bridge(name string, mtu int, gateways []netip.Prefix) hostnet.Bridge {
	var mac net.HardwareAddr
	if len(gateways) > 0 {
		mac = podMAC(gateways[0].Addr())
	}
	return hostnet.Bridge{Name: name, MTU: mtu, MAC: mac, Addresses: gateways}
}
