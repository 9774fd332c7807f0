// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package nft models the part of nftables that kogge's three tables need: tables, chains, sets, maps and verdict maps with
// typed concatenated keys, and rules as the kernel's own register programs.
//
// A Table is a desired state. Diff turns two states into one Transaction, which nft/kernel sends as one netlink batch and Fake
// applies with the kernel's ordering rules. Trace runs a packet through the same programs that the kernel gets:
//
//	rule compiler -> Table -> Diff -> Transaction -+-> kernel.Writer (netlink)
//	                                               `-> Fake --> Trace(packet)
package nft

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Family is the address family of a table, or of one rule's NAT.
type Family uint8

// Families, as the kernel numbers them.
const (
	INet Family = 1
	IPv4 Family = 2
	IPv6 Family = 10
)

// Version returns the family of an address.
func Version(addr netip.Addr) Family {
	if addr.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Type is the type of one field of a key or of map data.
type Type uint8

// The types that our tables use.
const (
	Addr4   Type = iota + 1 // IPv4 address, 4 bytes
	Addr6                   // IPv6 address, 16 bytes
	Proto                   // layer-4 protocol, 1 byte
	Service                 // port, 2 bytes, network order
	Number                  // 32 bits, host order: marks, identifiers, indexes
	IfName                  // interface name, 16 bytes, zero padded
	Jump                    // verdict; only as the single type of a map's data
)

// Size returns the length of a value in bytes, before padding. A Jump has none.
func (t Type) Size() int {
	switch t {
	case Addr4, Number:
		return 4
	case Addr6, IfName:
		return 16
	case Proto:
		return 1
	case Service:
		return 2
	default:
		return 0
	}
}

// Width returns how many bytes concatenated values of the types occupy: each is padded to the four bytes of a register, unless it
// stands alone.
func Width(types []Type) int {
	if len(types) == 1 {
		return types[0].Size()
	}
	n := 0
	for _, t := range types {
		n += (t.Size() + 3) &^ 3
	}
	return n
}

// Hook is where a base chain meets packets.
type Hook uint8

// Hooks, in the order of a packet's way through a router.
const (
	NoHook Hook = iota
	Prerouting
	Input
	Forward
	Output
	Postrouting
)

// Kind is the type of a base chain.
type Kind string

// Kinds of base chains.
const (
	Filter Kind = "filter"
	NAT    Kind = "nat"
)

// Priorities of base chains within a hook, as the nft program names them.
const (
	PriorityDstNAT int32 = -100
	PriorityFilter int32 = 0
	PrioritySrcNAT int32 = 100
)

// Table is the whole desired state of one table. The zero maps are not usable: make it with NewTable.
type Table struct {
	Family Family
	Name   string
	Chains map[string]*Chain
	Sets   map[string]*Set
}

// NewTable makes an empty table of family inet.
func NewTable(name string) *Table {
	return &Table{Family: INet, Name: name, Chains: map[string]*Chain{}, Sets: map[string]*Set{}}
}

// AddChain adds a chain with its rules and returns the table's pointer to it.
func (t *Table) AddChain(c Chain) *Chain {
	t.Chains[c.Name] = &c
	return &c
}

// AddSet adds a set or map and returns it, ready for Put.
func (t *Table) AddSet(s Set) *Set {
	if s.Elements == nil {
		s.Elements = map[string]Element{}
	}
	t.Sets[s.Name] = &s
	return &s
}

// Chain is an ordered list of rules. Hook, Kind and Priority are set for base chains only, whose policy is accept.
type Chain struct {
	Name     string
	Hook     Hook
	Kind     Kind
	Priority int32
	Rules    []Rule
}

// Rule is a program that runs until an Op does not hold (the next rule follows) or gives a verdict.
type Rule struct {
	Ops []Op
	// Comment says what the rule is for; the kernel keeps it, and the nft program shows it. At most 120 bytes.
	Comment string
}

// Set is a set, a map (Data set) or a verdict map (Data is Jump).
type Set struct {
	Name string
	// Key are the types of the fields of a key, at most five.
	Key []Type
	// Data are the types of a map's value; nil for sets.
	Data []Type
	// Interval sets hold ranges (Element.End) beside single keys.
	Interval bool
	// Dynamic sets are filled by rules (Update); their elements expire. Transactions normally leave their elements alone.
	Dynamic bool
	// Size bounds the number of elements; 0 means no bound, and is not allowed for dynamic sets.
	Size uint32
	// Elements by Element.ID. Diff ignores those of dynamic sets.
	Elements map[string]Element
}

// IsMap reports whether elements carry data.
func (s *Set) IsMap() bool { return len(s.Data) > 0 }

// IsVerdictMap reports whether elements carry verdicts.
func (s *Set) IsVerdictMap() bool { return len(s.Data) == 1 && s.Data[0] == Jump }

// Put adds or replaces an element.
func (s *Set) Put(e Element) { s.Elements[e.ID()] = e }

// sameShape reports whether both can hold the same elements, so that a change needs no new set.
func (s *Set) sameShape(o *Set) bool {
	return slices.Equal(s.Key, o.Key) && slices.Equal(s.Data, o.Data) && s.Interval == o.Interval && s.Dynamic == o.Dynamic && s.Size == o.Size
}

// Element is one entry of a set. Keys and data are made by Concat.
type Element struct {
	Key []byte
	// End is the last key of a range, inclusive, of the same length as Key; nil for a single key. In a concatenation each field is
	// a range of its own.
	End []byte
	// Data is a map's value.
	Data []byte
	// Verdict is a verdict map's value.
	Verdict Verdict
	// Timeout is the element's life in dynamic sets, Expires what is left of it; both zero elsewhere.
	Timeout, Expires time.Duration
}

// ID identifies the element within its set.
func (e Element) ID() string { return string(e.Key) + string(e.End) }

// Same reports whether two elements with equal ID carry the same value.
func (e Element) Same(o Element) bool {
	return bytes.Equal(e.Data, o.Data) && e.Verdict == o.Verdict
}

// VerdictKind is what happens to a packet.
type VerdictKind uint8

// Verdicts. NoVerdict continues with the next rule.
const (
	NoVerdict VerdictKind = iota
	Accept
	Drop
	Return
	JumpTo
	GoTo
)

// Verdict is a decision; Chain is set for JumpTo and GoTo.
type Verdict struct {
	Kind  VerdictKind
	Chain string
}

// Goto continues in a chain without coming back.
func Goto(chain string) Verdict { return Verdict{Kind: GoTo, Chain: chain} }

// Call continues in a chain and comes back after it.
func Call(chain string) Verdict { return Verdict{Kind: JumpTo, Chain: chain} }

// String renders the verdict as the nft program does.
func (v Verdict) String() string {
	switch v.Kind {
	case Accept:
		return "accept"
	case Drop:
		return "drop"
	case Return:
		return "return"
	case JumpTo:
		return "jump " + v.Chain
	case GoTo:
		return "goto " + v.Chain
	default:
		return "continue"
	}
}

// validName refuses what the kernel would, so that mistakes show in tests: names of up to 31 ordinary bytes.
func validName(name string) error {
	if name == "" || len(name) > 31 || strings.ContainsAny(name, " \t\n\"{}\x00") {
		return fmt.Errorf("nft: %q is not a name", name)
	}
	return nil
}
