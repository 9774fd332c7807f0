// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kinds"
)

// snapshot is everything that the cluster's zone answers from at one moment. It is immutable; the next one shares what did not change.
//
//	snapshot -> namespaces[ns] -> services[name] -> ports, addresses, endpoints
//	         -> reverse[hash of address] -> [address] -> names
type snapshot struct {
	namespaces map[string]*namespace
	reverse    [reverseShards]map[netip.Addr][]string
	seed       maphash.Seed
	serial     uint32
}

// reverseShards keeps what one change copies small.
const reverseShards = 256

type namespace struct {
	// exists is set if there is a Namespace object; names of services alone don't make pod names exist.
	exists   bool
	services map[string]*service
}

// service is a Service as DNS sees it.
type service struct {
	// external is the target of an ExternalName Service, fully qualified; nothing else is set then.
	external string
	// addrs are the cluster addresses; empty for headless Services.
	addrs     []netip.Addr
	headless  bool
	ports     []port
	endpoints []endpoint
}

// port is a named or unnamed port: of the Service, or of an endpoint of a headless one.
type port struct {
	name, proto string
	number      uint16
}

// endpoint is one ready address behind a Service. Only those of headless Services and those with a hostname are kept.
type endpoint struct {
	name  string // label below the Service's name
	addr  netip.Addr
	ports []port
}

func (s *snapshot) service(ns, name string) *service {
	n := s.namespaces[ns]
	if n == nil {
		return nil
	}
	return n.services[name]
}

func (s *snapshot) shard(a netip.Addr) int {
	return int(maphash.Comparable(s.seed, a) % reverseShards)
}

// names returns the names of an address, relative to "svc.<zone>".
func (s *snapshot) names(a netip.Addr) []string { return s.reverse[s.shard(a)][a] }

// builder turns objects into snapshots. It is not safe for concurrent use.
type builder struct {
	services   map[types.NamespacedName]*corev1.Service
	slices     map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice
	namespaces map[string]struct{}
	dirty      map[types.NamespacedName]struct{}
	dirtySpace map[string]struct{}
	current    *snapshot
}

func newBuilder() *builder {
	return &builder{
		services: map[types.NamespacedName]*corev1.Service{}, slices: map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice{},
		namespaces: map[string]struct{}{}, dirty: map[types.NamespacedName]struct{}{}, dirtySpace: map[string]struct{}{},
		current: &snapshot{namespaces: map[string]*namespace{}, seed: maphash.MakeSeed()},
	}
}

// set adds or replaces an object.
func (b *builder) set(obj kinds.Object) {
	switch o := obj.(type) {
	case *corev1.Service:
		b.services[b.touch(o.Namespace, o.Name)] = o
	case *discoveryv1.EndpointSlice:
		if owner := o.Labels[discoveryv1.LabelServiceName]; owner != "" {
			name := b.touch(o.Namespace, owner)
			if b.slices[name] == nil {
				b.slices[name] = map[string]*discoveryv1.EndpointSlice{}
			}
			b.slices[name][o.Name] = o
		}
	case *corev1.Namespace:
		b.dirtySpace[o.Name] = struct{}{}
		b.namespaces[o.Name] = struct{}{}
	}
}

// drop removes an object.
func (b *builder) drop(obj kinds.Object) {
	switch o := obj.(type) {
	case *corev1.Service:
		delete(b.services, b.touch(o.Namespace, o.Name))
	case *discoveryv1.EndpointSlice:
		if owner := o.Labels[discoveryv1.LabelServiceName]; owner != "" {
			name := b.touch(o.Namespace, owner)
			delete(b.slices[name], o.Name)
			if len(b.slices[name]) == 0 {
				delete(b.slices, name)
			}
		}
	case *corev1.Namespace:
		b.dirtySpace[o.Name] = struct{}{}
		delete(b.namespaces, o.Name)
	}
}

// touch marks a Service as changed.
func (b *builder) touch(namespace, service string) types.NamespacedName {
	name := types.NamespacedName{Namespace: namespace, Name: service}
	b.dirty[name] = struct{}{}
	return name
}

// build returns the snapshot of the present state.
func (b *builder) build() *snapshot {
	if len(b.dirty) == 0 && len(b.dirtySpace) == 0 {
		return b.current
	}
	next := *b.current
	next.serial++
	next.namespaces = maps.Clone(next.namespaces)
	w := &writing{snapshot: &next, spaces: map[string]bool{}}
	for name := range b.dirtySpace {
		n := w.namespace(name)
		_, n.exists = b.namespaces[name]
	}
	for name := range b.dirty {
		n := w.namespace(name.Namespace)
		w.unname(name, n.services[name.Name])
		delete(n.services, name.Name)
		if s := b.services[name]; s != nil {
			made := b.make(s, b.slices[name])
			n.services[name.Name] = made
			w.name(name, made)
		}
	}
	for name := range w.spaces {
		if n := next.namespaces[name]; !n.exists && len(n.services) == 0 {
			delete(next.namespaces, name)
		}
	}
	clear(b.dirty)
	clear(b.dirtySpace)
	b.current = &next
	return b.current
}

// writing is a snapshot under construction; what it has copied it may change.
type writing struct {
	*snapshot
	spaces map[string]bool
	shards [reverseShards]bool
}

func (w *writing) namespace(name string) *namespace {
	if w.spaces[name] {
		return w.namespaces[name]
	}
	w.spaces[name] = true
	fresh := &namespace{services: map[string]*service{}}
	if old := w.namespaces[name]; old != nil {
		fresh.exists, fresh.services = old.exists, maps.Clone(old.services)
	}
	w.namespaces[name] = fresh
	return fresh
}

// pointers calls f for each address of a service with its name below "svc.<zone>".
func pointers(of types.NamespacedName, s *service, f func(netip.Addr, string)) {
	if s == nil {
		return
	}
	own := of.Name + "." + of.Namespace
	for _, a := range s.addrs {
		f(a, own)
	}
	if s.headless {
		for i := range s.endpoints {
			f(s.endpoints[i].addr, s.endpoints[i].name+"."+own)
		}
	}
}

func (w *writing) names(a netip.Addr) (map[netip.Addr][]string, []string) {
	i := w.shard(a)
	if !w.shards[i] {
		w.shards[i] = true
		w.reverse[i] = maps.Clone(w.reverse[i])
		if w.reverse[i] == nil {
			w.reverse[i] = map[netip.Addr][]string{}
		}
	}
	return w.reverse[i], w.reverse[i][a]
}

func (w *writing) name(of types.NamespacedName, s *service) {
	pointers(of, s, func(a netip.Addr, name string) {
		shard, names := w.names(a)
		if !slices.Contains(names, name) {
			shard[a] = append(slices.Clone(names), name)
		}
	})
}

func (w *writing) unname(of types.NamespacedName, s *service) {
	pointers(of, s, func(a netip.Addr, name string) {
		shard, names := w.names(a)
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
		if len(names) == 0 {
			delete(shard, a)
			return
		}
		shard[a] = names
	})
}

// make compiles one Service.
func (b *builder) make(s *corev1.Service, list map[string]*discoveryv1.EndpointSlice) *service {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return &service{external: strings.ToLower(strings.TrimSuffix(s.Spec.ExternalName, ".")) + "."}
	}
	out := &service{headless: s.Spec.ClusterIP == corev1.ClusterIPNone}
	if !out.headless {
		for _, text := range clusterIPs(s) {
			if a, err := netip.ParseAddr(text); err == nil {
				out.addrs = append(out.addrs, a.Unmap())
			}
		}
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		out.ports = append(out.ports, port{name: p.Name, proto: strings.ToLower(string(p.Protocol)), number: uint16(p.Port)})
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		out.endpoints = appendEndpoints(out.endpoints, list[name], out.headless)
	}
	return out
}

func clusterIPs(s *corev1.Service) []string {
	if len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs
	}
	return []string{s.Spec.ClusterIP}
}

func appendEndpoints(out []endpoint, slice *discoveryv1.EndpointSlice, headless bool) []endpoint {
	if slice.AddressType == discoveryv1.AddressTypeFQDN {
		return out
	}
	var ports []port
	for i := range slice.Ports {
		p := &slice.Ports[i]
		made := port{proto: "tcp"}
		if p.Name != nil {
			made.name = *p.Name
		}
		if p.Protocol != nil {
			made.proto = strings.ToLower(string(*p.Protocol))
		}
		if p.Port != nil {
			made.number = uint16(*p.Port)
		}
		ports = append(ports, made)
	}
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		named := e.Hostname != nil && *e.Hostname != ""
		if e.Conditions.Ready != nil && !*e.Conditions.Ready || !headless && !named {
			continue
		}
		for _, text := range e.Addresses {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			name := dashed(addr)
			if named {
				name = strings.ToLower(*e.Hostname)
			}
			out = append(out, endpoint{name: name, addr: addr.Unmap(), ports: ports})
		}
	}
	return out
}

// dashed is the label of an address: 10-1-2-3, or 2001-db8--1.
func dashed(a netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.Unmap().String())
}

// undashed reads the label of a pod's address.
func undashed(label string) (netip.Addr, bool) {
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		if a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ".")); err == nil {
			return a, true
		}
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	return a, err == nil && a.Zone() == ""
}
