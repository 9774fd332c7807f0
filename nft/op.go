// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"time"
)

// Reg is one of the sixteen four-byte registers, 0 to 15. A value longer than four bytes occupies the registers that follow. Registers
// are empty at the start of each rule.
type Reg uint8

// Field is a property of a packet that Load reads.
type Field uint8

// Fields. Each is written to whole registers, padded with zeros.
const (
	Src4         Field = iota + 1 // IPv4 source; the packet must be IPv4
	Dst4                          // IPv4 destination
	Src6                          // IPv6 source; the packet must be IPv6
	Dst6                          // IPv6 destination
	L4Proto                       // layer-4 protocol
	SrcPort                       // transport source port
	DstPort                       // transport destination port
	Mark                          // packet mark
	PacketFamily                  // family of the packet: one byte, IPv4 or IPv6
	InIf                          // name of the input interface
	OutIf                         // name of the output interface
	CTState                       // connection state bits, see State
	CTStatus                      // connection status bits, see StatusDNAT
	SrcType                       // kind of the source address in the routing table, see TypeLocal
	DstType                       // kind of the destination address in the routing table
)

// Connection states (bits of CTState), status bits of CTStatus and address kinds (values of SrcType and DstType).
const (
	StateInvalid     uint32 = 1
	StateEstablished uint32 = 2
	StateRelated     uint32 = 4
	StateNew         uint32 = 8
	StateUntracked   uint32 = 64
	StatusDNAT       uint32 = 1 << 5
	TypeUnicast      uint32 = 1
	TypeLocal        uint32 = 2
)

// Type returns the type of the field's value.
func (f Field) Type() Type {
	switch f {
	case Src4, Dst4:
		return Addr4
	case Src6, Dst6:
		return Addr6
	case L4Proto, PacketFamily:
		return Proto
	case SrcPort, DstPort:
		return Service
	case InIf, OutIf:
		return IfName
	default:
		return Number
	}
}

func (f Field) String() string {
	names := [...]string{
		Src4: "ip saddr", Dst4: "ip daddr", Src6: "ip6 saddr", Dst6: "ip6 daddr", L4Proto: "meta l4proto", SrcPort: "th sport",
		DstPort: "th dport", Mark: "meta mark", PacketFamily: "meta nfproto", InIf: "meta iifname", OutIf: "meta oifname", CTState: "ct state",
		CTStatus: "ct status", SrcType: "fib saddr type", DstType: "fib daddr type",
	}
	if int(f) < len(names) && names[f] != "" {
		return names[f]
	}
	return fmt.Sprintf("field(%d)", f)
}

// Op is one instruction of a rule. An Op either holds, and the next one runs, or ends the rule, or gives a verdict.
type Op interface {
	fmt.Stringer
	op()
}

// Load reads a field into registers. It ends the rule when the packet has no such field.
type Load struct {
	Field Field
	Reg   Reg
}

// Const writes a constant into registers.
type Const struct {
	Reg   Reg
	Value []byte
}

// Bits computes To = (From AND Mask) XOR Xor over len(Mask) bytes.
type Bits struct {
	From, To  Reg
	Mask, Xor []byte
}

// Compare holds if the bytes at Reg equal (or, with Not, differ from) Value.
type Compare struct {
	Reg   Reg
	Not   bool
	Value []byte
}

// Member holds if the key that starts at Key is in the set or, with Not, is not.
type Member struct {
	Set string
	Key Reg
	Not bool
}

// Get looks a key up in a map and writes the data into registers; it ends the rule when there is none.
type Get struct {
	Map  string
	Key  Reg
	Into Reg
}

// Dispatch looks a key up in a verdict map and follows the verdict; it ends the rule when there is none.
type Dispatch struct {
	Map string
	Key Reg
}

// Decide gives a verdict.
type Decide struct{ Verdict Verdict }

// Random writes a number from 0 to Mod-1.
type Random struct {
	Reg Reg
	Mod uint32
}

// UpdateKind says what Update does.
type UpdateKind uint8

// Update kinds. Refresh adds the element or restarts the life of the one that is there (whose data stays).
const (
	Refresh UpdateKind = iota + 1
	Forget
)

// Update changes a dynamic set from within a rule. Data is read for maps only.
type Update struct {
	Set     string
	Kind    UpdateKind
	Key     Reg
	Data    Reg
	Timeout time.Duration
}

// DestNAT rewrites the destination to the address at Addr and the port at Port, and accepts.
type DestNAT struct {
	Family Family
	Addr   Reg
	Port   Reg
}

// SourceNAT rewrites the source address to the one at Addr, and accepts.
type SourceNAT struct {
	Family Family
	Addr   Reg
}

// Masquerade rewrites the source to the address of the interface that the packet leaves by, and accepts.
type Masquerade struct{}

// SetMark sets the packet mark from a register.
type SetMark struct{ Reg Reg }

// RejectKind says how a sender is told.
type RejectKind uint8

// Reject kinds.
const (
	PortUnreachable RejectKind = iota + 1 // ICMP or ICMPv6, by the packet's family
	AdminProhibited                       // the same
	TCPReset                              // TCP only
)

// Reject drops the packet and tells the sender.
type Reject struct{ Kind RejectKind }

func (Load) op()       {}
func (Const) op()      {}
func (Bits) op()       {}
func (Compare) op()    {}
func (Member) op()     {}
func (Get) op()        {}
func (Dispatch) op()   {}
func (Decide) op()     {}
func (Random) op()     {}
func (Update) op()     {}
func (DestNAT) op()    {}
func (SourceNAT) op()  {}
func (Masquerade) op() {}
func (SetMark) op()    {}
func (Reject) op()     {}

func (o Load) String() string  { return fmt.Sprintf("r%d = %s", o.Reg, o.Field) }
func (o Const) String() string { return fmt.Sprintf("r%d = 0x%x", o.Reg, o.Value) }
func (o Bits) String() string {
	return fmt.Sprintf("r%d = r%d & 0x%x ^ 0x%x", o.To, o.From, o.Mask, o.Xor)
}

func (o Compare) String() string {
	if o.Not {
		return fmt.Sprintf("r%d != 0x%x", o.Reg, o.Value)
	}
	return fmt.Sprintf("r%d == 0x%x", o.Reg, o.Value)
}

func (o Member) String() string {
	if o.Not {
		return fmt.Sprintf("r%d not in @%s", o.Key, o.Set)
	}
	return fmt.Sprintf("r%d in @%s", o.Key, o.Set)
}

func (o Get) String() string      { return fmt.Sprintf("r%d = @%s[r%d]", o.Into, o.Map, o.Key) }
func (o Dispatch) String() string { return fmt.Sprintf("vmap @%s[r%d]", o.Map, o.Key) }
func (o Decide) String() string   { return o.Verdict.String() }
func (o Random) String() string   { return fmt.Sprintf("r%d = random mod %d", o.Reg, o.Mod) }
func (o Update) String() string {
	if o.Kind == Forget {
		return fmt.Sprintf("delete @%s[r%d]", o.Set, o.Key)
	}
	return fmt.Sprintf("update @%s[r%d] = r%d for %s", o.Set, o.Key, o.Data, o.Timeout)
}

func (o DestNAT) String() string    { return fmt.Sprintf("dnat to r%d port r%d", o.Addr, o.Port) }
func (o SourceNAT) String() string  { return fmt.Sprintf("snat to r%d", o.Addr) }
func (o Masquerade) String() string { return "masquerade" }
func (o SetMark) String() string    { return fmt.Sprintf("meta mark = r%d", o.Reg) }
func (o Reject) String() string {
	switch o.Kind {
	case TCPReset:
		return "reject with tcp reset"
	case AdminProhibited:
		return "reject with icmpx admin-prohibited"
	default:
		return "reject with icmpx port-unreachable"
	}
}
