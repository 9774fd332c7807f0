// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"

	"kogge.dev/kogge/nft"
)

// setKey names one ordered list of endpoints of a Service.
type setKey struct {
	port   string
	family nft.Family
	local  bool
}

// compiler makes the product of one Service.
type compiler struct {
	core *Core
	s    *service
	out  product
	seen map[netip.Addr]struct{} // local ready endpoints, for the health check
}

func (c *Core) compile(s *service, ports []servicePort, prior map[uint32]string) product {
	w := &compiler{core: c, s: s, seen: map[netip.Addr]struct{}{}, out: product{
		elements: map[elementKey]nft.Element{}, shared: map[sharedElement]struct{}{}, chains: map[chain]struct{}{}, ids: map[uint32]string{},
	}}
	kept := map[setKey]bool{}
	for i := range ports {
		w.port(&ports[i], prior, kept)
	}
	for key := range s.order {
		if !kept[key] {
			delete(s.order, key)
		}
	}
	if port := healthPort(s.object); port != 0 && len(ports) > 0 {
		w.out.health = Health{Port: port, LocalEndpoints: len(w.seen)}
	}
	return w.out
}

// lists are a port's endpoints as numbered in the table.
type lists struct {
	id             uint32
	cluster, local int
}

func (w *compiler) port(p *servicePort, prior map[uint32]string, kept map[setKey]bool) {
	all := w.core.endpointsOf(w.s, p)
	chosen := w.core.choose(p, all)
	for i := range all {
		if all[i].local && all[i].ready {
			w.seen[all[i].at.Addr()] = struct{}{}
		}
	}
	label := fmt.Sprintf("%s:%s/%d/%d", w.s.name, p.name, p.proto, p.family)
	id := w.core.identify(label, prior)
	w.out.ids[id] = label
	n := lists{id: id, cluster: len(chosen.cluster), local: len(chosen.local)}
	w.endpoints(p, id, setKey{label, p.family, false}, chosen.cluster, kept)
	w.endpoints(p, id|1, setKey{label, p.family, true}, chosen.local, kept)
	for _, f := range p.fronts {
		if w.core.owns(f.front, w.s.name) {
			w.front(p, f, n, chosen.any)
		}
	}
	if p.clusterIP.IsValid() {
		w.share(setClusterIPs, p.family, nft.AddrValue(p.clusterIP))
	}
	if p.proto == nft.UDP {
		w.udp(p, all)
	}
}

// endpoints numbers a list of endpoints.
func (w *compiler) endpoints(p *servicePort, id uint32, key setKey, list []endpoint, kept map[setKey]bool) {
	if len(list) == 0 {
		return
	}
	kept[key] = true
	order := arrange(w.s.order[key], list)
	w.s.order[key] = order
	for i, at := range order {
		target := nft.Concat(nft.AddrValue(at.Addr()), nft.PortValue(at.Port()))
		w.put(setEndpoints, p.family, nft.Element{Key: nft.Concat(nft.NumberValue(id), nft.NumberValue(uint32(i))), Data: target})
		if p.affinity > 0 {
			w.put(setLive, p.family, nft.Element{Key: append(nft.NumberValue(id), target...)})
		}
	}
	for i := range list {
		if list[i].local || list[i].unplaced {
			addr := nft.AddrValue(list[i].at.Addr())
			w.share(setHairpin, p.family, nft.Concat(addr, addr))
		}
	}
}

// front makes the elements of one front that the Service owns.
func (w *compiler) front(p *servicePort, f servedFront, n lists, served bool) {
	key := f.key()
	if len(f.sources) > 0 {
		w.put(setGuarded, p.family, nft.Element{Key: key})
		for _, prefix := range f.sources {
			first, last := nft.Prefix(prefix)
			w.put(setSources, p.family, nft.Element{
				Key: append(append([]byte(nil), key...), first...), End: append(append([]byte(nil), key...), last...),
			})
		}
	}
	refuse := func(v nft.Verdict) { w.put(setBlocked, p.family, nft.Element{Key: key, Verdict: v}) }
	if !served {
		refuse(nft.Goto(chainReject))
		return
	}
	of := f.scope()
	pick := func(how way, count int) nft.Verdict {
		ch := chain{way: how, family: p.family, of: of, count: count, affinity: p.affinity}
		w.out.chains[ch] = struct{}{}
		return nft.Goto(ch.String())
	}
	id := n.id
	switch {
	case !f.external && p.internalLocal:
		if n.local == 0 {
			refuse(nft.Verdict{Kind: nft.Drop})
			return
		}
		id |= 1
		w.put(setFronts, p.family, nft.Element{Key: key, Verdict: pick(wayCluster, n.local)})
	case !f.external:
		w.put(setFronts, p.family, nft.Element{Key: key, Verdict: pick(wayCluster, n.cluster)})
	case !p.externalLocal:
		w.put(setFronts, p.family, nft.Element{Key: key, Verdict: pick(wayExternal, n.cluster)})
	default:
		w.put(setFronts, p.family, nft.Element{Key: key, Verdict: nft.Goto(localChain(p.family, of))})
		if n.cluster > 0 {
			w.put(setInside, p.family, nft.Element{Key: key, Verdict: pick(wayPlain, n.cluster)})
		}
		if n.local > 0 {
			w.put(setOutside, p.family, nft.Element{Key: key, Verdict: pick(wayLocal, n.local)})
		} else {
			refuse(nft.Goto(chainOutsiders))
		}
	}
	w.put(setIDs, p.family, nft.Element{Key: key, Data: nft.NumberValue(id)})
}

func (f front) scope() scope {
	if f.addr.IsValid() {
		return ofAddress
	}
	return ofNode
}

// key encodes a front.
func (f front) key() []byte {
	addr := f.addr
	if !addr.IsValid() {
		addr = layoutOf(f.family).zero
	}
	return nft.Concat(nft.AddrValue(addr), nft.ProtoValue(f.proto), nft.PortValue(f.port))
}

func (w *compiler) put(set string, family nft.Family, e nft.Element) {
	w.out.elements[elementKey{set + layoutOf(family).suffix, e.ID()}] = e
}

func (w *compiler) share(set string, family nft.Family, key []byte) {
	w.out.shared[sharedElement{set + layoutOf(family).suffix, string(key)}] = struct{}{}
}

// udp says where the flows of a UDP port may go: to any serving endpoint, whatever policies and topology would choose for new flows.
func (w *compiler) udp(p *servicePort, all []endpoint) {
	backends := map[netip.AddrPort]struct{}{}
	for i := range all {
		if all[i].serving {
			backends[all[i].at] = struct{}{}
		}
	}
	if len(backends) == 0 {
		return
	}
	for _, f := range p.fronts {
		node := !f.addr.IsValid()
		addr := f.addr
		if node {
			addr = layoutOf(p.family).zero
		}
		w.out.udp = append(w.out.udp, UDPFront{Front: netip.AddrPortFrom(addr, f.port), NodePort: node, Backends: backends})
	}
}
