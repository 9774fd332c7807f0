// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"maps"
	"sort"

	corev1 "k8s.io/api/core/v1"
)

// Count tells what a node with its pods counts for a question: it calls add with the topology keys of the domains that it counts for. A count of 0
// makes the node's domain one that exists; domains of keys that the node has no label for are passed over.
type Count func(node *Node, add func(topologyKey string, n int64))

// maxTallies bounds how many questions are remembered; a cluster's pods come from few templates.
const maxTallies = 64

// counter is what one question counts by domain. It is kept from snapshot to snapshot: only nodes that changed are counted anew.
type counter struct {
	epoch uint64
	stamp uint64 // of the last snapshot that is counted
	nodes []counted
	// ids of the domains, in sums and members.
	ids     map[domain]int
	domains []domain
	sums    []int64
	members []int // the nodes that count for the domain
	keys    []byKey
}

// byKey is the domain of a topology key that each node is in, or noDomain.
type byKey struct {
	key string
	of  []int
}

// domain is the nodes with one value of a label.
type domain struct{ key, value string }

// counted is what a node was counted for.
type counted struct {
	object *corev1.Node
	parts  []part
}

type part struct {
	domain int
	n      int64
}

// change is a node that differs from its predecessor in the snapshots up to a stamp.
type change struct {
	stamp uint64
	index int
}

// Tally answers a question about all nodes of the snapshot. What count adds for a node must follow from the question's text, the node and its pods
// alone. The answer holds within the cycle.
func (s *Snapshot) Tally(question string, count Count) *Tally {
	t := s.tallies[question]
	if t == nil {
		if len(s.tallies) >= maxTallies {
			clear(s.tallies)
		}
		t = &counter{}
		s.tallies[question] = t
	}
	t.update(s, count)
	return &Tally{kept: t}
}

func (t *counter) update(s *Snapshot, count Count) {
	switch {
	case t.epoch != s.epoch || t.nodes == nil || t.stamp < s.changesSince:
		*t = counter{epoch: s.epoch, nodes: make([]counted, len(s.Nodes)), ids: map[domain]int{}}
		for i := range s.Nodes {
			t.put(s.Nodes[i], count)
		}
	default:
		first := sort.Search(len(s.changes), func(i int) bool { return s.changes[i].stamp > t.stamp })
		for _, c := range s.changes[first:] {
			t.put(s.Nodes[c.index], count)
		}
	}
	t.stamp = s.stamp
}

// put counts a node anew.
func (t *counter) put(node *Node, count Count) {
	at := &t.nodes[node.index]
	for _, p := range at.parts {
		t.sums[p.domain] -= p.n
		t.members[p.domain]--
	}
	at.parts = at.parts[:0]
	if at.object != node.Node {
		at.object = node.Node
		for _, k := range t.keys {
			k.of[node.index] = t.idOf(k.key, node.Node)
		}
	}
	count(node, func(key string, n int64) {
		of := t.index(key)
		if of == nil {
			of = t.addKey(key)
		}
		id := of[node.index]
		if id < 0 {
			return
		}
		at.parts = append(at.parts, part{domain: id, n: n})
		t.sums[id] += n
		t.members[id]++
	})
}

// index returns the domains of a key by node, nil for a key that nothing was counted for.
func (t *counter) index(key string) []int {
	for i := range t.keys {
		if t.keys[i].key == key {
			return t.keys[i].of
		}
	}
	return nil
}

// addKey finds the domains of a key that the nodes seen so far are in. Those that are not yet seen follow in put.
func (t *counter) addKey(key string) []int {
	of := make([]int, len(t.nodes))
	for i := range t.nodes {
		of[i] = noDomain
		if object := t.nodes[i].object; object != nil {
			of[i] = t.idOf(key, object)
		}
	}
	t.keys = append(t.keys, byKey{key: key, of: of})
	return of
}

const noDomain = -1

func (t *counter) idOf(key string, node *corev1.Node) int {
	value, ok := node.Labels[key]
	if !ok {
		return noDomain
	}
	d := domain{key, value}
	id, known := t.ids[d]
	if !known {
		id = len(t.domains)
		t.ids[d] = id
		t.domains, t.sums, t.members = append(t.domains, d), append(t.sums, 0), append(t.members, 0)
	}
	return id
}

// Tally is the answer to a question: sums by domain.
type Tally struct {
	kept *counter
	// supposed is what Add added, by domain.
	supposed map[int]int64
}

// domainOf returns the domain of a key that a node is in, or noDomain where nothing counts for it; ok is false where the node has no such label.
func (c *Tally) domainOf(key string, node *Node) (id int, ok bool) {
	t := c.kept
	if of := t.index(key); of != nil && node.index < len(t.nodes) && t.nodes[node.index].object == node.Node {
		return of[node.index], of[node.index] != noDomain
	}
	value, ok := node.Labels[key]
	if !ok {
		return noDomain, false
	}
	if id, known := t.ids[domain{key, value}]; known {
		return id, true
	}
	return noDomain, true
}

// In returns the sum of the domain of a key that a node is in; ok is false where the node has no such label.
func (c *Tally) In(key string, node *Node) (n int64, ok bool) {
	id, ok := c.domainOf(key, node)
	if id == noDomain {
		return 0, ok
	}
	return c.kept.sums[id] + c.supposed[id], true
}

// Own returns what a node of the snapshot itself counts.
func (c *Tally) Own(node *Node) int64 {
	n := int64(0)
	for _, p := range c.kept.nodes[node.index].parts {
		n += p.n
	}
	return n
}

// Zero reports whether all sums are 0.
func (c *Tally) Zero() bool {
	for id, n := range c.kept.sums {
		if n+c.supposed[id] != 0 {
			return false
		}
	}
	return true
}

// Least returns the smallest sum of a domain of a key that exists, and how many of them exist.
func (c *Tally) Least(key string) (least int64, domains int) {
	for id, members := range c.kept.members {
		if members == 0 || c.kept.domains[id].key != key {
			continue
		}
		n := c.kept.sums[id] + c.supposed[id]
		if domains == 0 || n < least {
			least = n
		}
		domains++
	}
	return least, domains
}

// Clone returns counts that can be added to without changing these.
func (c *Tally) Clone() *Tally { return &Tally{kept: c.kept, supposed: maps.Clone(c.supposed)} }

// Add supposes more, or with negative n less, in the domain of a key that a node is in.
func (c *Tally) Add(key string, node *Node, n int64) {
	id := c.kept.idOf(key, node.Node)
	if id == noDomain {
		return
	}
	if c.supposed == nil {
		c.supposed = map[int]int64{}
	}
	c.supposed[id] += n
}
