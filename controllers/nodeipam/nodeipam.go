// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package nodeipam gives every node its own range of pod addresses out of the cluster's.
package nodeipam

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// Sizes of a node's range, upstream's defaults.
const (
	nodeBits4 = 24
	nodeBits6 = 64
)

type controller struct {
	reconcile.Scope
	nodes *client.Informer[*corev1.Node]
	api   client.Resource[*corev1.Node]

	mu    sync.Mutex
	pools []*pool
	given map[string][]netip.Prefix // by node
}

// New makes the loop for the cluster's pod ranges: one, or one of each address family.
func New(scope reconcile.Scope, ranges []netip.Prefix) *reconcile.Loop {
	c := &controller{
		Scope: scope, nodes: client.InformerFor[*corev1.Node](scope.Informers), api: client.Of[*corev1.Node](scope.Client),
		given: map[string][]netip.Prefix{},
	}
	for _, r := range ranges {
		bits := nodeBits4
		if r.Addr().Is6() {
			bits = nodeBits6
		}
		c.pools = append(c.pools, newPool(r, max(bits, r.Bits())))
	}
	loop := reconcile.New(reconcile.Config{Name: "node-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile})
	// Ranges that nodes hold already are taken before the first one is given out.
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add:    func(node *corev1.Node) { c.note(node); loop.Enqueue(reconcile.KeyOf(node)) },
		Update: func(_, node *corev1.Node) { c.note(node); loop.Enqueue(reconcile.KeyOf(node)) },
		Delete: func(node *corev1.Node) { c.release(node.Name) },
	})
	return loop
}

// note records the ranges that a node has.
func (c *controller) note(node *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range node.Spec.PodCIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			continue // the API server validates; a foreign value is not ours to judge
		}
		for _, p := range c.pools {
			if p.take(prefix) {
				c.given[node.Name] = append(c.given[node.Name], prefix)
			}
		}
	}
}

func (c *controller) release(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, prefix := range c.given[node] {
		for _, p := range c.pools {
			p.free(prefix)
		}
	}
	delete(c.given, node)
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	node, ok := c.nodes.Get("", key.Name)
	if !ok || len(node.Spec.PodCIDRs) > 0 || node.DeletionTimestamp != nil {
		return nil
	}
	ranges, err := c.allocate(key.Name)
	if err != nil {
		c.Events.Event(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", node.Name)
		return err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"podCIDR": ranges[0], "podCIDRs": ranges}})
	if err != nil {
		return err
	}
	_, err = c.api.Patch(ctx, "", key.Name, types.StrategicMergePatchType, patch)
	if err != nil && !apierrors.IsServerTimeout(err) {
		c.release(key.Name)
	}
	return err
}

// allocate returns the node's ranges, new ones unless it was given some whose write is not seen yet.
func (c *controller) allocate(node string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.given[node]) == 0 {
		for _, p := range c.pools {
			prefix, ok := p.next()
			if !ok {
				for _, taken := range c.given[node] {
					for _, q := range c.pools {
						q.free(taken)
					}
				}
				delete(c.given, node)
				return nil, fmt.Errorf("pod range %s has no free /%d for node %s", p.whole, p.bits, node)
			}
			c.given[node] = append(c.given[node], prefix)
		}
	}
	out := make([]string, 0, len(c.given[node]))
	for _, prefix := range c.given[node] {
		out = append(out, prefix.String())
	}
	return out, nil
}

// pool cuts one range into equal parts. It is not safe for concurrent use.
type pool struct {
	whole netip.Prefix
	bits  int
	used  map[uint64]bool
	count uint64
	hint  uint64
}

func newPool(whole netip.Prefix, bits int) *pool {
	return &pool{whole: whole, bits: bits, used: map[uint64]bool{}, count: 1 << min(bits-whole.Bits(), 24)}
}

// index returns which part of the pool a prefix is.
func (p *pool) index(prefix netip.Prefix) (uint64, bool) {
	if prefix.Bits() != p.bits || !p.whole.Contains(prefix.Addr()) {
		return 0, false
	}
	raw := prefix.Addr().AsSlice()
	n := uint64(0)
	for bit := p.whole.Bits(); bit < p.bits; bit++ {
		n = n<<1 | uint64(raw[bit/8]>>(7-bit%8)&1)
	}
	return n, n < p.count
}

func (p *pool) at(n uint64) netip.Prefix {
	raw := p.whole.Masked().Addr().AsSlice()
	for i := range p.bits - p.whole.Bits() {
		if n>>i&1 == 1 {
			bit := p.bits - 1 - i
			raw[bit/8] |= 1 << (7 - bit%8)
		}
	}
	address, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(address, p.bits)
}

// take marks a part as used and reports whether it was free.
func (p *pool) take(prefix netip.Prefix) bool {
	n, ok := p.index(prefix)
	if !ok || p.used[n] {
		return false
	}
	p.used[n] = true
	return true
}

func (p *pool) free(prefix netip.Prefix) {
	if n, ok := p.index(prefix); ok {
		delete(p.used, n)
	}
}

// next takes the first free part after the last one given, so that a freed range rests before it is given again.
func (p *pool) next() (netip.Prefix, bool) {
	for range p.count {
		n := p.hint % p.count
		p.hint++
		if !p.used[n] {
			p.used[n] = true
			return p.at(n), true
		}
	}
	return netip.Prefix{}, false
}
