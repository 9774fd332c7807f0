// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import "kogge.dev/kogge/nft"

// Names of the sets; those about addresses exist per family, with its suffix. The verdict maps bear the directions' names.
const (
	setSelf   = "self"   // pod . pod: a pod always reaches itself
	setPeers  = "peers"  // rule . pod address
	setBlocks = "blocks" // rule . range of addresses
	setPorts  = "ports"  // rule . protocol . range of ports
	setNamed  = "named"  // rule . destination . protocol . port
)

// layout is what differs between the address families.
type layout struct {
	family   nft.Family
	suffix   string
	addr     nft.Type
	src, dst nft.Field
	width    nft.Reg
}

func layouts() []layout {
	return []layout{{nft.IPv4, "4", nft.Addr4, nft.Src4, nft.Dst4, 1}, {nft.IPv6, "6", nft.Addr6, nft.Src6, nft.Dst6, 4}}
}

func suffix(f nft.Family) string {
	if f == nft.IPv4 {
		return "4"
	}
	return "6"
}

// skeleton is the table without any pod. Only forwarded packets meet it: what this node itself sends to its pods (probes) and what
// pods send to their node is never judged.
func skeleton() *nft.Table {
	t := nft.NewTable(TableName)
	t.AddSet(nft.Set{Name: setPorts, Key: []nft.Type{nft.Number, nft.Proto, nft.Service}, Interval: true})
	// Neighbour discovery between pods on one bridge is untracked; without it IPv6 stops.
	under := nft.StateEstablished | nft.StateRelated | nft.StateUntracked
	rules := []nft.Rule{{Ops: nft.Program(nft.HasBits(nft.CTState, under), nft.DoAccept()), Comment: "connections under way"}}
	for _, l := range layouts() {
		for _, s := range []nft.Set{
			{Name: "in", Key: []nft.Type{l.addr}, Data: []nft.Type{nft.Jump}},
			{Name: "out", Key: []nft.Type{l.addr}, Data: []nft.Type{nft.Jump}},
			{Name: setSelf, Key: []nft.Type{l.addr, l.addr}},
			{Name: setPeers, Key: []nft.Type{nft.Number, l.addr}},
			{Name: setBlocks, Key: []nft.Type{nft.Number, l.addr}, Interval: true},
			{Name: setNamed, Key: []nft.Type{nft.Number, l.addr, nft.Proto, nft.Service}},
		} {
			s.Name += l.suffix
			t.AddSet(s)
		}
		rules = append(rules,
			nft.Rule{Ops: nft.Program(nft.IsFamily(l.family), nft.LoadKey(0, l.src, l.dst), nft.Do(nft.Member{Set: setSelf + l.suffix}), nft.DoAccept()), Comment: "a pod to itself"},
			nft.Rule{Ops: nft.Program(nft.IsFamily(l.family), nft.LoadKey(0, l.src), nft.Do(nft.Dispatch{Map: "out" + l.suffix})), Comment: "from a pod with egress policies"},
			nft.Rule{Ops: nft.Program(nft.IsFamily(l.family), nft.LoadKey(0, l.dst), nft.Do(nft.Dispatch{Map: "in" + l.suffix})), Comment: "to a pod with ingress policies"},
		)
	}
	t.AddChain(nft.Chain{Name: "forward", Hook: nft.Forward, Kind: nft.Filter, Priority: nft.PriorityFilter, Rules: rules})
	return t
}

// portKey is the register where keys about ports start, beyond those about peers.
const portKey nft.Reg = 8

// chainRules lists what a class allows, each returning to the base chain for the other direction, and drops the rest.
func chainRules(d direction, allowed []*allowance) []nft.Rule {
	var out []nft.Rule
	for _, a := range allowed {
		for _, peer := range a.peerPieces(d) {
			for _, port := range a.portPieces() {
				if peer.family != 0 && port.family != 0 && peer.family != port.family {
					continue
				}
				family := max(peer.family, port.family)
				var is []nft.Op
				if family != 0 {
					is = nft.IsFamily(family)
				}
				out = append(out, nft.Rule{Ops: nft.Program(is, peer.ops, port.ops, nft.DoReturn())})
			}
		}
	}
	return append(out, nft.Rule{Ops: nft.DoDrop(), Comment: "no policy allows it"})
}

// piece is a part of a rule that only holds for one family, or for any if that is 0.
type piece struct {
	family nft.Family
	ops    []nft.Op
}

func (a *allowance) peerPieces(d direction) []piece {
	if a.anyPeer {
		return []piece{{}}
	}
	var out []piece
	for _, l := range layouts() {
		peer := l.src
		if d.name == "out" {
			peer = l.dst
		}
		key := nft.Program(nft.Do(nft.Const{Reg: 0, Value: nft.NumberValue(a.id)}), nft.LoadKey(1, peer))
		if a.pods[l.family] {
			out = append(out, piece{l.family, nft.Program(key, nft.Do(nft.Member{Set: setPeers + l.suffix}))})
		}
		if a.blocks[l.family] {
			out = append(out, piece{l.family, nft.Program(key, nft.Do(nft.Member{Set: setBlocks + l.suffix}))})
		}
	}
	return out
}

func (a *allowance) portPieces() []piece {
	if a.anyPort {
		return []piece{{}}
	}
	var out []piece
	id := nft.Do(nft.Const{Reg: portKey, Value: nft.NumberValue(a.id)})
	if a.numbered {
		out = append(out, piece{ops: nft.Program(id, nft.LoadKey(portKey+1, nft.L4Proto, nft.DstPort), nft.Do(nft.Member{Set: setPorts, Key: portKey}))})
	}
	for _, l := range layouts() {
		if a.named[l.family] {
			out = append(out, piece{l.family, nft.Program(id, nft.LoadKey(portKey+1, l.dst, nft.L4Proto, nft.DstPort), nft.Do(nft.Member{Set: setNamed + l.suffix, Key: portKey}))})
		}
	}
	return out
}
