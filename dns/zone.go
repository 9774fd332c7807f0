// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// specification is the version of the DNS specification of Kubernetes that the zone follows.
const specification = "1.1.0"

// negativeTTL is how long clients may remember that a name does not exist, in seconds.
const negativeTTL = 5

// zone answers questions about the cluster's own names. It holds no state but its settings.
type zone struct {
	name string // "cluster.local."
	ttl  uint32
	// servers are the addresses that the zone's name server record resolves to.
	servers []netip.Addr
}

// reply collects the parts of an answer.
type reply struct {
	snap  *snapshot
	qname string // as asked
	qtype uint16
	// found is set when the name exists, whatever types it has.
	found  bool
	answer []dns.RR
	extra  []dns.RR
	// chase is a name that the answer's alias leads to, to be resolved elsewhere.
	chase string
}

func (r *reply) wants(t uint16) bool { return r.qtype == t || r.qtype == dns.TypeANY }

// lookup answers a question whose lower-case name lies in the zone.
func (z *zone) lookup(snap *snapshot, qname, lower string, qtype uint16) *reply {
	r := &reply{snap: snap, qname: qname, qtype: qtype}
	labels := dns.SplitDomainName(strings.TrimSuffix(lower, z.name))
	switch n := len(labels); {
	case n == 0:
		z.apex(r)
	case n == 1 && labels[0] == "dns-version":
		r.found = true
		if r.wants(dns.TypeTXT) {
			r.answer = append(r.answer, &dns.TXT{Hdr: z.header(qname, dns.TypeTXT), Txt: []string{specification}})
		}
	case labels[n-1] == "svc":
		z.services(r, labels[:n-1])
	case labels[n-1] == "pod":
		z.pods(r, labels[:n-1])
	case labels[n-1] == "dns" && (n == 1 || n == 2 && labels[0] == "ns"):
		r.found = true
		if n == 2 {
			z.addresses(r, z.servers)
		}
	}
	return r
}

func (z *zone) header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: z.ttl}
}

func (z *zone) apex(r *reply) {
	r.found = true
	if r.wants(dns.TypeSOA) {
		r.answer = append(r.answer, z.soa(r.snap))
	}
	if r.wants(dns.TypeNS) {
		r.answer = append(r.answer, &dns.NS{Hdr: z.header(r.qname, dns.TypeNS), Ns: "ns.dns." + z.name})
		for _, a := range z.servers {
			r.extra = append(r.extra, z.address("ns.dns."+z.name, a))
		}
	}
}

// soa is the start of authority, which also tells how long negative answers hold.
func (z *zone) soa(snap *snapshot) *dns.SOA {
	var serial uint32 = 1
	if snap != nil {
		serial += snap.serial
	}
	return &dns.SOA{
		Hdr: z.header(z.name, dns.TypeSOA), Ns: "ns.dns." + z.name, Mbox: "hostmaster." + z.name,
		Serial: serial, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: negativeTTL,
	}
}

// services answers names below "svc". Labels are from the left:
//
//	[] [namespace] [service namespace] [endpoint service namespace] [_port _protocol service namespace]
func (z *zone) services(r *reply, labels []string) {
	n := len(labels)
	if n < 2 {
		r.found = n == 0 || r.snap.namespaces[labels[0]] != nil
		return
	}
	s := r.snap.service(labels[n-1], labels[n-2])
	if s == nil {
		return
	}
	own := strings.Join(labels[n-2:], ".") + ".svc." + z.name
	switch {
	case s.external != "":
		if n == 2 {
			z.alias(r, s.external)
		}
	case n == 2:
		z.service(r, s, own)
	case n == 3 && strings.HasPrefix(labels[0], "_"):
		r.found = len(s.matching("", labels[0][1:])) > 0
	case n == 3:
		z.endpoint(r, s, labels[0])
	case n == 4 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_"):
		list := s.matching(labels[0][1:], labels[1][1:])
		r.found = len(list) > 0
		z.targets(r, s, list, own)
	}
}

// alias answers for an ExternalName Service, whatever was asked.
func (z *zone) alias(r *reply, target string) {
	r.found = true
	r.answer = append(r.answer, &dns.CNAME{Hdr: z.header(r.qname, dns.TypeCNAME), Target: target})
	if r.qtype == dns.TypeA || r.qtype == dns.TypeAAAA {
		r.chase = target
	}
}

func (z *zone) service(r *reply, s *service, own string) {
	if !s.headless {
		r.found = true
		z.addresses(r, s.addrs)
		z.targets(r, s, s.matching("", ""), own)
		return
	}
	r.found = len(s.endpoints) > 0
	addrs := make([]netip.Addr, 0, len(s.endpoints))
	for i := range s.endpoints {
		addrs = append(addrs, s.endpoints[i].addr)
	}
	// Clients take the first: spread them.
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	z.addresses(r, addrs)
	z.targets(r, s, s.matching("", ""), own)
}

func (z *zone) endpoint(r *reply, s *service, name string) {
	var addrs []netip.Addr
	for i := range s.endpoints {
		if s.endpoints[i].name == name {
			addrs = append(addrs, s.endpoints[i].addr)
		}
	}
	r.found = len(addrs) > 0
	z.addresses(r, addrs)
}

// target is one place that a service record points to: below is empty for the Service itself.
type target struct {
	below string
	addr  netip.Addr
	port  uint16
}

// matching returns where a port of a name and protocol leads; empty ones match all.
func (s *service) matching(name, proto string) []target {
	fits := func(p port) bool { return (name == "" || p.name == name) && (proto == "" || p.proto == proto) }
	var out []target
	if s.headless {
		for i := range s.endpoints {
			for _, p := range s.endpoints[i].ports {
				if fits(p) {
					out = append(out, target{s.endpoints[i].name, s.endpoints[i].addr, p.number})
				}
			}
		}
		return out
	}
	for _, p := range s.ports {
		if fits(p) {
			out = append(out, target{port: p.number})
		}
	}
	return out
}

// targets answers with service records, and the addresses that they lead to.
func (z *zone) targets(r *reply, s *service, list []target, own string) {
	if !r.wants(dns.TypeSRV) || len(list) == 0 {
		return
	}
	weight := uint16(max(100/len(list), 1))
	type glue struct {
		name string
		addr netip.Addr
	}
	seen := map[dns.SRV]bool{}
	glued := map[glue]bool{}
	add := func(name string, a netip.Addr) {
		if !glued[glue{name, a}] {
			glued[glue{name, a}] = true
			r.extra = append(r.extra, z.address(name, a))
		}
	}
	for _, t := range list {
		name := own
		if t.below != "" {
			name = t.below + "." + own
		}
		rr := dns.SRV{Hdr: z.header(r.qname, dns.TypeSRV), Weight: weight, Port: t.port, Target: name}
		if !seen[rr] {
			seen[rr] = true
			r.answer = append(r.answer, &rr)
		}
		if t.below != "" {
			add(name, t.addr)
			continue
		}
		for _, a := range s.addrs {
			add(name, a)
		}
	}
}

// pods answers names below "pod": an address in dashes, in a namespace that exists.
func (z *zone) pods(r *reply, labels []string) {
	n := len(labels)
	if n == 0 {
		r.found = true
		return
	}
	ns := r.snap.namespaces[labels[n-1]]
	if ns == nil || !ns.exists || n > 2 {
		return
	}
	if n == 1 {
		r.found = true
		return
	}
	if a, ok := undashed(labels[0]); ok {
		r.found = true
		z.addresses(r, []netip.Addr{a})
	}
}

func (z *zone) addresses(r *reply, addrs []netip.Addr) {
	for _, a := range addrs {
		if a.Is4() && r.wants(dns.TypeA) || a.Is6() && r.wants(dns.TypeAAAA) {
			r.answer = append(r.answer, z.address(r.qname, a))
		}
	}
}

func (z *zone) address(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: z.header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: z.header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}

// pointer answers a reverse question about an address that has names here; nil if it has none.
func (z *zone) pointer(snap *snapshot, qname string, a netip.Addr, qtype uint16) *reply {
	names := slices.Sorted(slices.Values(snap.names(a)))
	if len(names) == 0 {
		return nil
	}
	r := &reply{snap: snap, qname: qname, qtype: qtype, found: true}
	if r.wants(dns.TypePTR) {
		for _, name := range names {
			r.answer = append(r.answer, &dns.PTR{Hdr: z.header(qname, dns.TypePTR), Ptr: name + ".svc." + z.name})
		}
	}
	return r
}

// reverseAddr reads the address that a reverse name stands for; ok is false for names that are no whole address.
func reverseAddr(lower string) (netip.Addr, bool) {
	labels := dns.SplitDomainName(lower)
	slices.Reverse(labels)
	if len(labels) < 2 || labels[0] != "arpa" {
		return netip.Addr{}, false
	}
	var text string
	switch rest := labels[2:]; {
	case labels[1] == "in-addr" && len(rest) == 4:
		text = strings.Join(rest, ".")
	case labels[1] == "ip6" && len(rest) == 32:
		var b strings.Builder
		for i, nibble := range rest {
			if i > 0 && i%4 == 0 {
				b.WriteByte(':')
			}
			if len(nibble) != 1 {
				return netip.Addr{}, false
			}
			b.WriteString(nibble)
		}
		text = b.String()
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil
}
