// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package rules compiles Services and EndpointSlices into the nftables table kogge-proxy. It is pure: objects in, transactions out.
//
// The layout is flat. Every address and port that a Service answers on is a front; a front is one element in each of a few maps,
// and a set of endpoints is one element per endpoint in one map. No chain belongs to a Service: there is one per way of treating
// a packet and per number of endpoints, so that a change of one Service costs its own elements only. docs/design/packet.md draws
// the maps.
package rules

import (
	"cmp"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/nft"
)

// TableName is the table that the compiler owns.
const TableName = "kogge-proxy"

// Config holds what the rules depend on beside the API's objects. It is fixed for the life of a Core.
type Config struct {
	// Node is the name of the node that the rules are for.
	Node string
	// PodCIDRs are the cluster's pod ranges. Traffic to cluster addresses from elsewhere is masqueraded. Empty means that no
	// source counts as a pod, and nothing but external traffic is masqueraded.
	PodCIDRs []netip.Prefix
	// MasqueradeAll masquerades all traffic to Services.
	MasqueradeAll bool
	// NodeAddresses are this node's addresses, for source ranges that allow the node.
	NodeAddresses []netip.Addr
	// NodePortCIDRs restrict which of the node's addresses answer on node ports; empty means all but loopback.
	NodePortCIDRs []netip.Prefix
}

// Core holds the state of the compiler. It is not safe for concurrent use.
type Core struct {
	config   Config
	zone     string
	services map[types.NamespacedName]*service
	dirty    map[types.NamespacedName]struct{}
	claims   map[front][]claim
	ids      map[uint32]string // even identifiers in use -> service port
	shared   map[sharedElement]int
	chains   map[chain]int
}

// service is what is known of one Service: its object, its slices (either may come first) and what was made of them.
type service struct {
	name   types.NamespacedName
	object *corev1.Service
	slices map[string]*discoveryv1.EndpointSlice
	made   product
	// order remembers the positions of endpoints, so that a change moves as few as possible.
	order map[setKey][]netip.AddrPort
}

// front is an address and port that a Service answers on. The zero address stands for all of the node's (node ports).
type front struct {
	family nft.Family
	addr   netip.Addr
	proto  uint8
	port   uint16
}

// claim is one Service's wish for a front. The oldest Service wins; the others wait.
type claim struct {
	name    types.NamespacedName
	created int64
}

// product is all that one Service contributes to the table.
type product struct {
	elements map[elementKey]nft.Element
	shared   map[sharedElement]struct{}
	chains   map[chain]struct{}
	fronts   map[front]struct{} // wanted, owned or not
	ids      map[uint32]string
	health   Health
	udp      []UDPFront
}

type elementKey struct{ set, id string }

// sharedElement is a member of a set without data that several Services may put there.
type sharedElement struct {
	set string
	key string
}

// Health is the state behind a health check node port. Port 0 means that the Service has none.
type Health struct {
	Port           uint16
	LocalEndpoints int
}

// UDPFront says which endpoints a front's UDP flows may lead to. Flows to others are stale, and conntrack would keep them alive.
type UDPFront struct {
	// Front is the Service address; its Addr is the zero value of the family for node ports.
	Front    netip.AddrPort
	NodePort bool
	// Backends are the serving endpoints. A front without any is never listed.
	Backends map[netip.AddrPort]struct{}
}

// Change is the outcome of a Flush.
type Change struct {
	Tx *nft.Transaction
	// Health has the Services whose health check state changed; Port 0 removes one.
	Health map[types.NamespacedName]Health
	// UDP lists the UDP fronts of all Services that changed.
	UDP []UDPFront
	// Services is how many Services were compiled again.
	Services int
}

// New makes a core without Services.
func New(config Config) *Core {
	return &Core{
		config: config, services: map[types.NamespacedName]*service{}, dirty: map[types.NamespacedName]struct{}{},
		claims: map[front][]claim{}, ids: map[uint32]string{}, shared: map[sharedElement]int{}, chains: map[chain]int{},
	}
}

// SetZone says which zone the node is in; topology hints depend on it.
func (c *Core) SetZone(zone string) {
	if c.zone == zone {
		return
	}
	c.zone = zone
	for name := range c.services {
		c.dirty[name] = struct{}{}
	}
}

// SetService adds or replaces a Service.
func (c *Core) SetService(s *corev1.Service) {
	c.touch(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}).object = s
}

// DeleteService removes a Service.
func (c *Core) DeleteService(name types.NamespacedName) { c.touch(name).object = nil }

// SetSlice adds or replaces an EndpointSlice.
func (c *Core) SetSlice(s *discoveryv1.EndpointSlice) {
	if name, ok := serviceOf(s); ok {
		c.touch(name).slices[s.Name] = s
	}
}

// DeleteSlice removes an EndpointSlice.
func (c *Core) DeleteSlice(s *discoveryv1.EndpointSlice) {
	if name, ok := serviceOf(s); ok {
		delete(c.touch(name).slices, s.Name)
	}
}

func (c *Core) touch(name types.NamespacedName) *service {
	s := c.services[name]
	if s == nil {
		s = &service{name: name, slices: map[string]*discoveryv1.EndpointSlice{}, order: map[setKey][]netip.AddrPort{}}
		c.services[name] = s
	}
	c.dirty[name] = struct{}{}
	return s
}

// Pending reports whether a Flush would look at anything.
func (c *Core) Pending() bool { return len(c.dirty) > 0 }

// Flush compiles what changed since the last Flush and returns the transaction that brings the table up to date. The table is
// expected to be what the earlier transactions made; when one failed, replace it by Table.
func (c *Core) Flush() Change {
	before := map[types.NamespacedName]product{}
	for len(c.dirty) > 0 {
		for _, name := range sortedNames(c.dirty) {
			delete(c.dirty, name)
			s := c.services[name]
			if s == nil {
				continue
			}
			if _, seen := before[name]; !seen {
				before[name] = s.made
			}
			c.remake(s)
		}
	}
	d := newDelta(c)
	change := Change{Health: map[types.NamespacedName]Health{}, Services: len(before)}
	for _, name := range sortedNames(before) {
		s := c.services[name]
		d.compare(before[name], s.made)
		if s.made.health != before[name].health {
			change.Health[name] = s.made.health
		}
		change.UDP = append(change.UDP, s.made.udp...)
		if s.object == nil && len(s.slices) == 0 {
			delete(c.services, name)
		}
	}
	change.Tx = d.transaction()
	return change
}

// Table returns the whole table as it should be now.
func (c *Core) Table() *nft.Table {
	t := c.skeleton()
	for _, ch := range sortedChains(c.chains) {
		t.AddChain(nft.Chain{Name: ch.String(), Rules: c.chainRules(ch)})
	}
	for _, s := range c.services {
		for key, e := range s.made.elements {
			t.Sets[key.set].Put(e)
		}
	}
	for e := range c.shared {
		t.Sets[e.set].Put(nft.Element{Key: []byte(e.key)})
	}
	return t
}

// remake compiles one Service and settles its claims.
func (c *Core) remake(s *service) {
	var ports []servicePort
	if s.object != nil {
		ports = parseService(s.object, c.config)
	}
	wanted := map[front]struct{}{}
	for _, p := range ports {
		for _, f := range p.fronts {
			wanted[f.front] = struct{}{}
		}
	}
	for f := range s.made.fronts {
		if _, still := wanted[f]; !still {
			c.release(f, s.name)
		}
	}
	for f := range wanted {
		c.claim(f, s)
	}
	for id := range s.made.ids {
		delete(c.ids, id)
	}
	prior := s.made.ids
	s.made = c.compile(s, ports, prior)
	s.made.fronts = wanted
}

func (c *Core) claim(f front, s *service) {
	mine := claim{name: s.name, created: s.object.CreationTimestamp.UnixNano()}
	list := c.claims[f]
	var head types.NamespacedName
	if len(list) > 0 {
		head = list[0].name
	}
	list = slices.DeleteFunc(slices.Clone(list), func(o claim) bool { return o.name == s.name })
	list = append(list, mine)
	slices.SortFunc(list, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.name.String(), b.name.String()))
	})
	c.claims[f] = list
	if head.Name != "" && list[0].name != head {
		c.dirty[head] = struct{}{}
		c.dirty[list[0].name] = struct{}{}
	}
}

func (c *Core) release(f front, name types.NamespacedName) {
	list := slices.DeleteFunc(slices.Clone(c.claims[f]), func(o claim) bool { return o.name == name })
	if len(list) == 0 {
		delete(c.claims, f)
		return
	}
	if c.claims[f][0].name == name {
		c.dirty[list[0].name] = struct{}{}
	}
	c.claims[f] = list
}

func (c *Core) owns(f front, name types.NamespacedName) bool {
	list := c.claims[f]
	return len(list) > 0 && list[0].name == name
}

// identify returns the even identifier of a service port's endpoints; the odd one above it is that of the local ones. Identifiers come
// from the name, so that they survive restarts and affinity with them.
func (c *Core) identify(port string, prior map[uint32]string) uint32 {
	for id, owner := range prior {
		if owner == port && c.ids[id] == "" {
			c.ids[id] = port
			return id
		}
	}
	h := fnv.New32a()
	h.Write([]byte(port))
	id := h.Sum32() &^ 1
	for c.ids[id] != "" {
		id += 2
	}
	c.ids[id] = port
	return id
}

func sortedNames[V any](m map[types.NamespacedName]V) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(m), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

func sortedChains[V any](m map[chain]V) []chain {
	return slices.SortedFunc(maps.Keys(m), func(a, b chain) int { return cmp.Compare(a.String(), b.String()) })
}
