// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/nft"
)

// ruleKey names one ingress or egress rule of a policy.
type ruleKey struct {
	policy    types.NamespacedName
	direction string
	index     int
}

// allowance is a compiled rule: which kinds of peers and ports it has, so that a chain asks only sets that can hold something.
type allowance struct {
	id uint32
	// anyPeer and anyPort are set for rules without peers or without ports.
	anyPeer, anyPort bool
	pods, blocks     map[nft.Family]bool
	numbered         bool
	named            map[nft.Family]bool
	// peers are the pods that the rule names, for egress rules with named ports.
	peers []*pod
}

type compiler struct {
	core      *Core
	table     *nft.Table
	rules     map[ruleKey]*allowance
	ids       map[uint32]bool
	selectors map[*metav1.LabelSelector]labels.Selector
}

// pod makes a local pod's elements, and its class's chains on the way. It reports whether any policy selects it.
func (w *compiler) pod(p *pod, policies []*networkingv1.NetworkPolicy) bool {
	isolated := false
	for _, d := range directions() {
		var of []*networkingv1.NetworkPolicy
		for _, policy := range policies {
			if d.governs(policy) && w.matches(&policy.Spec.PodSelector, p.labels) {
				of = append(of, policy)
			}
		}
		if len(of) == 0 {
			continue
		}
		isolated = true
		chain := w.class(d, of, p)
		for _, a := range p.addrs {
			f := nft.Version(a)
			w.put(d.name, f, nft.Element{Key: nft.AddrValue(a), Verdict: nft.Call(chain)})
			w.put(setSelf, f, nft.Element{Key: nft.Concat(nft.AddrValue(a), nft.AddrValue(a))})
		}
	}
	return isolated
}

// class returns the chain of a set of policies, made on first use.
func (w *compiler) class(d direction, policies []*networkingv1.NetworkPolicy, p *pod) string {
	h := fnv.New64a()
	var allowed []*allowance
	for _, policy := range policies {
		key := ruleKey{policy: types.NamespacedName{Namespace: policy.Namespace, Name: policy.Name}, direction: d.name}
		fmt.Fprintf(h, "%s\n", key.policy)
		peers, ports := rulesOf(policy, d)
		for i := range peers {
			key.index = i
			a := w.rule(key, policy, peers[i], ports[i])
			if d.kind == networkingv1.PolicyTypeIngress {
				w.nameports(a, ports[i], []*pod{p})
			}
			allowed = append(allowed, a)
		}
	}
	name := fmt.Sprintf("%s-%016x", d.name, h.Sum64())
	// Made anew for every pod: a later pod may add a family of named ports to the rules.
	w.table.AddChain(nft.Chain{Name: name, Rules: chainRules(d, allowed)})
	return name
}

func rulesOf(policy *networkingv1.NetworkPolicy, d direction) (peers [][]networkingv1.NetworkPolicyPeer, ports [][]networkingv1.NetworkPolicyPort) {
	if d.kind == networkingv1.PolicyTypeIngress {
		for _, r := range policy.Spec.Ingress {
			peers, ports = append(peers, r.From), append(ports, r.Ports)
		}
		return peers, ports
	}
	for _, r := range policy.Spec.Egress {
		peers, ports = append(peers, r.To), append(ports, r.Ports)
	}
	return peers, ports
}

// rule compiles a rule once.
func (w *compiler) rule(key ruleKey, policy *networkingv1.NetworkPolicy, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) *allowance {
	if a := w.rules[key]; a != nil {
		return a
	}
	a := &allowance{
		id: w.identify(key), anyPeer: len(peers) == 0, anyPort: len(ports) == 0,
		pods: map[nft.Family]bool{}, blocks: map[nft.Family]bool{}, named: map[nft.Family]bool{},
	}
	w.rules[key] = a
	var blocks []span
	for i := range peers {
		if peers[i].IPBlock != nil {
			blocks = append(blocks, spansOf(peers[i].IPBlock)...)
			continue
		}
		w.eachPod(policy.Namespace, &peers[i], func(p *pod) { a.peers = append(a.peers, p) })
	}
	for _, p := range a.peers {
		for _, addr := range p.addrs {
			f := nft.Version(addr)
			a.pods[f] = true
			w.put(setPeers, f, nft.Element{Key: nft.Concat(nft.NumberValue(a.id), nft.AddrValue(addr))})
		}
	}
	for _, s := range merge(blocks) {
		f := nft.Version(s.first)
		a.blocks[f] = true
		id := nft.NumberValue(a.id)
		w.put(setBlocks, f, nft.Element{Key: nft.Concat(id, nft.AddrValue(s.first)), End: nft.Concat(id, nft.AddrValue(s.last))})
	}
	w.ports(a, ports)
	if key.direction == "out" {
		dests := a.peers
		if a.anyPeer {
			dests = w.allPods()
		}
		w.nameports(a, ports, dests)
	}
	return a
}

// eachPod calls f for the pods that a peer selects.
func (w *compiler) eachPod(namespace string, peer *networkingv1.NetworkPolicyPeer, f func(*pod)) {
	for ns, pods := range w.core.pods {
		if peer.NamespaceSelector == nil && ns != namespace {
			continue
		}
		if peer.NamespaceSelector != nil {
			of, known := w.core.namespaces[ns]
			if !known || !w.matches(peer.NamespaceSelector, of) {
				continue
			}
		}
		for _, p := range pods {
			if peer.PodSelector == nil || w.matches(peer.PodSelector, p.labels) {
				f(p)
			}
		}
	}
}

func (w *compiler) allPods() []*pod {
	var out []*pod
	for _, pods := range w.core.pods {
		for _, p := range pods {
			out = append(out, p)
		}
	}
	return out
}

// matches applies a selector; one that can't be parsed selects nothing.
func (w *compiler) matches(s *metav1.LabelSelector, of labels.Set) bool {
	compiled, ok := w.selectors[s]
	if !ok {
		var err error
		if compiled, err = metav1.LabelSelectorAsSelector(s); err != nil {
			compiled = labels.Nothing()
		}
		w.selectors[s] = compiled
	}
	return compiled.Matches(of)
}

// ports makes the elements of numbered ports.
func (w *compiler) ports(a *allowance, ports []networkingv1.NetworkPolicyPort) {
	type ends struct{ first, last uint16 }
	ranges := map[uint8][]ends{}
	for i := range ports {
		p := &ports[i]
		proto := protocolNumber(p.Protocol)
		switch {
		case p.Port == nil:
			ranges[proto] = append(ranges[proto], ends{0, 65535})
		case p.Port.Type == intstr.Int && p.EndPort != nil:
			ranges[proto] = append(ranges[proto], ends{uint16(p.Port.IntVal), uint16(*p.EndPort)})
		case p.Port.Type == intstr.Int:
			ranges[proto] = append(ranges[proto], ends{uint16(p.Port.IntVal), uint16(p.Port.IntVal)})
		}
	}
	set := w.table.Sets[setPorts]
	for _, proto := range slices.Sorted(maps.Keys(ranges)) {
		list := ranges[proto]
		slices.SortFunc(list, func(a, b ends) int { return cmp.Compare(a.first, b.first) })
		for i := 0; i < len(list); {
			whole := list[i]
			for i++; i < len(list) && int(list[i].first) <= int(whole.last)+1; i++ {
				whole.last = max(whole.last, list[i].last)
			}
			head := [][]byte{nft.NumberValue(a.id), nft.ProtoValue(proto)}
			set.Put(nft.Element{
				Key: nft.Concat(append(slices.Clone(head), nft.PortValue(whole.first))...),
				End: nft.Concat(append(slices.Clone(head), nft.PortValue(whole.last))...),
			})
			a.numbered = true
		}
	}
}

// nameports makes the elements of named ports: what number a name means is each destination's own matter.
func (w *compiler) nameports(a *allowance, ports []networkingv1.NetworkPolicyPort, dests []*pod) {
	for i := range ports {
		p := &ports[i]
		if p.Port == nil || p.Port.Type != intstr.String {
			continue
		}
		proto := protocolNumber(p.Protocol)
		for _, dest := range dests {
			number, ok := dest.ports[namedPort{p.Port.StrVal, proto}]
			if !ok {
				continue
			}
			for _, addr := range dest.addrs {
				f := nft.Version(addr)
				a.named[f] = true
				w.put(setNamed, f, nft.Element{Key: nft.Concat(nft.NumberValue(a.id), nft.AddrValue(addr), nft.ProtoValue(proto), nft.PortValue(number))})
			}
		}
	}
}

func (w *compiler) put(set string, f nft.Family, e nft.Element) { w.table.Sets[set+suffix(f)].Put(e) }

// span is a range of addresses of one family, ends included.
type span struct{ first, last netip.Addr }

// spansOf returns what an ipBlock leaves of its range.
func spansOf(b *networkingv1.IPBlock) []span {
	whole, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return nil
	}
	out := []span{spanOf(whole)}
	for _, text := range b.Except {
		except, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		hole := spanOf(except)
		var left []span
		for _, s := range out {
			left = append(left, s.without(hole)...)
		}
		out = left
	}
	return out
}

func spanOf(p netip.Prefix) span {
	first, last := nft.Prefix(p)
	from, _ := netip.AddrFromSlice(first)
	to, _ := netip.AddrFromSlice(last)
	return span{from, to}
}

func (s span) without(hole span) []span {
	if hole.first.BitLen() != s.first.BitLen() || hole.last.Less(s.first) || s.last.Less(hole.first) {
		return []span{s}
	}
	var out []span
	if s.first.Less(hole.first) {
		out = append(out, span{s.first, hole.first.Prev()})
	}
	if hole.last.Less(s.last) {
		out = append(out, span{hole.last.Next(), s.last})
	}
	return out
}

// merge joins spans that touch: the kernel refuses ranges that overlap.
func merge(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return a.first.Compare(b.first) })
	var out []span
	for _, s := range list {
		if n := len(out); n > 0 && out[n-1].first.BitLen() == s.first.BitLen() {
			last := &out[n-1]
			if !last.last.Less(s.first) || last.last.Next() == s.first {
				if last.last.Less(s.last) {
					last.last = s.last
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}
