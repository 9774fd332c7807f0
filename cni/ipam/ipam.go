// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package ipam decides which pod of a node gets which address. It is a core: no goroutines, no clock, no files. Its
// driver, package cni, stores what it decides before anybody uses it, and restores it after a restart.
//
// Addresses are handed out in rising order from the one after the last, and again from the start at the end of the range:
// an address rests as long as possible before its next pod, so that late packets and stale DNS answers meet nobody.
package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ErrExhausted is returned by Allocate when a range has no free address.
var ErrExhausted = errors.New("no free address")

// ErrTaken is returned by Restore for an address that another owner has.
var ErrTaken = errors.New("address is taken")

// Owner names what an address belongs to: a container and an interface of it.
type Owner struct {
	ContainerID string
	IfName      string
}

func (o Owner) String() string { return o.ContainerID + "/" + o.IfName }

// Assignment is one address for one owner.
type Assignment struct {
	// Address has the length of its range's prefix: the addresses of the range are on the link.
	Address netip.Prefix
	// Gateway is the host's address in the range.
	Gateway netip.Addr
}

// pool is one range.
//
//	10.244.1.0/24:  .0 network  .1 gateway  .2 ... .254 pods  .255 broadcast
type pool struct {
	prefix  netip.Prefix
	gateway netip.Addr
	// first and last bound what may be handed out, both included.
	first, last netip.Addr
	// cursor is the address that was handed out last, or gateway before the first.
	cursor netip.Addr
	used   map[netip.Addr]Owner
}

// Allocator holds the ranges of one node, at most one per address family, and who has which address. An owner has one
// address of every range or none.
type Allocator struct {
	pools  []*pool
	owners map[Owner][]netip.Addr
}

// New makes an allocator over the ranges; the order is that of the addresses in its answers.
func New(ranges []netip.Prefix) (*Allocator, error) {
	a := &Allocator{owners: map[Owner][]netip.Addr{}}
	if len(ranges) == 0 {
		return nil, errors.New("no address range")
	}
	for _, r := range ranges {
		p, err := newPool(r)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(a.pools, func(o *pool) bool { return o.prefix.Addr().Is4() == r.Addr().Is4() }) {
			return nil, fmt.Errorf("address range %s: there is one of this family already", r)
		}
		a.pools = append(a.pools, p)
	}
	return a, nil
}

func newPool(r netip.Prefix) (*pool, error) {
	if !r.IsValid() || r != r.Masked() {
		return nil, fmt.Errorf("address range %s: host bits are set", r)
	}
	if free := r.Addr().BitLen() - r.Bits(); free < 2 {
		return nil, fmt.Errorf("address range %s: too small for a gateway and a pod", r)
	}
	last := lastAddress(r)
	if r.Addr().Is4() {
		last = last.Prev() // broadcast
	}
	gateway := r.Addr().Next()
	return &pool{prefix: r, gateway: gateway, first: gateway.Next(), last: last, cursor: gateway, used: map[netip.Addr]Owner{}}, nil
}

// lastAddress is the highest address of a prefix.
func lastAddress(r netip.Prefix) netip.Addr {
	b := r.Addr().AsSlice()
	for i := r.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}

// Gateways are the host's addresses, one of each range, with the range's length.
func (a *Allocator) Gateways() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(a.pools))
	for _, p := range a.pools {
		out = append(out, netip.PrefixFrom(p.gateway, p.prefix.Bits()))
	}
	return out
}

// Ranges are the ranges given to New.
func (a *Allocator) Ranges() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(a.pools))
	for _, p := range a.pools {
		out = append(out, p.prefix)
	}
	return out
}

// Allocate gives the owner an address of every range. An owner that has addresses gets the same again. On error nothing
// has changed.
func (a *Allocator) Allocate(owner Owner) ([]Assignment, error) {
	if held := a.owners[owner]; held != nil {
		return a.assignments(held), nil
	}
	var got []netip.Addr
	for _, p := range a.pools {
		addr, ok := p.free()
		if !ok {
			for i, undo := range got {
				delete(a.pools[i].used, undo)
			}
			return nil, fmt.Errorf("allocate address of %s: %w", p.prefix, ErrExhausted)
		}
		p.used[addr] = owner
		got = append(got, addr)
	}
	for i, p := range a.pools {
		p.cursor = got[i]
	}
	a.owners[owner] = got
	return a.assignments(got), nil
}

// free finds the next address after the cursor that nobody has.
func (p *pool) free() (netip.Addr, bool) {
	addr := p.cursor
	for {
		addr = addr.Next()
		if p.last.Less(addr) || !addr.IsValid() {
			addr = p.first
		}
		if _, taken := p.used[addr]; !taken {
			return addr, true
		}
		if addr == p.cursor || p.cursor.Less(p.first) && addr == p.last {
			return netip.Addr{}, false
		}
	}
}

// assignments describes addresses by their ranges; addresses outside of all ranges stand alone.
func (a *Allocator) assignments(addrs []netip.Addr) []Assignment {
	out := make([]Assignment, 0, len(addrs))
	for _, addr := range addrs {
		one := Assignment{Address: netip.PrefixFrom(addr, addr.BitLen())}
		for _, p := range a.pools {
			if p.prefix.Contains(addr) {
				one = Assignment{Address: netip.PrefixFrom(addr, p.prefix.Bits()), Gateway: p.gateway}
			}
		}
		out = append(out, one)
	}
	return out
}

// Restore notes that the owner has the addresses, as an earlier Allocate decided. Addresses outside of the ranges, which
// may have changed since, are noted too. The ranges go on after the highest restored address.
func (a *Allocator) Restore(owner Owner, addrs []netip.Addr) error {
	for _, addr := range addrs {
		if p := a.poolOf(addr); p != nil {
			if other, taken := p.used[addr]; taken && other != owner {
				return fmt.Errorf("restore %s for %s: %w by %s", addr, owner, ErrTaken, other)
			}
		}
	}
	a.Release(owner)
	for _, addr := range addrs {
		if p := a.poolOf(addr); p != nil {
			p.used[addr] = owner
			if p.cursor.Less(addr) && !p.last.Less(addr) {
				p.cursor = addr
			}
		}
	}
	a.owners[owner] = slices.Clone(addrs)
	return nil
}

func (a *Allocator) poolOf(addr netip.Addr) *pool {
	for _, p := range a.pools {
		if p.prefix.Contains(addr) {
			return p
		}
	}
	return nil
}

// Release takes the owner's addresses back and returns them; an owner without any is no error.
func (a *Allocator) Release(owner Owner) []netip.Addr {
	held := a.owners[owner]
	delete(a.owners, owner)
	for _, addr := range held {
		if p := a.poolOf(addr); p != nil {
			delete(p.used, addr)
		}
	}
	return held
}

// Owners lists who has addresses, sorted.
func (a *Allocator) Owners() []Owner {
	out := make([]Owner, 0, len(a.owners))
	for o := range a.owners {
		out = append(out, o)
	}
	slices.SortFunc(out, func(x, y Owner) int { return strings.Compare(x.String(), y.String()) })
	return out
}

// Held returns the owner's addresses.
func (a *Allocator) Held(owner Owner) []netip.Addr { return slices.Clone(a.owners[owner]) }
