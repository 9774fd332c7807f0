// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Packet is the first packet of a connection, or a later one when Established is set.
type Packet struct {
	Proto    uint8
	Src, Dst netip.AddrPort
	// InIf and OutIf are interface names; OutIf is what routing picks after destination NAT.
	InIf, OutIf string
	// Local is set for packets that this host's own processes send.
	Local bool
	Mark  uint32
	// Established packets skip NAT chains, as in the kernel.
	Established bool
}

// Fate is where a packet ends.
type Fate string

// Fates. Delivered is to this host itself, Forwarded to another one (pods included).
const (
	Delivered Fate = "delivered"
	Forwarded Fate = "forwarded"
	Dropped   Fate = "dropped"
	Rejected  Fate = "rejected"
)

// Outcome says what became of a packet.
type Outcome struct {
	Fate Fate
	// Dst is the destination after NAT.
	Dst netip.AddrPort
	// Src is the source after SourceNAT; Masqueraded is set when the source became that of the output interface.
	Src         netip.AddrPort
	Masqueraded bool
	// Reject is set for rejected packets.
	Reject RejectKind
	Mark   uint32
	// Path names the base chains, chains and rules that acted.
	Path []string
}

// String is what tests compare: "forwarded to 10.0.0.2:80 masqueraded".
func (o Outcome) String() string {
	s := string(o.Fate)
	switch o.Fate {
	case Rejected:
		return strings.TrimPrefix(Reject{o.Reject}.String(), "reject ") + " " + s
	case Dropped:
		return s
	case Delivered, Forwarded:
	}
	s += " to " + o.Dst.String()
	if o.Masqueraded {
		s += " masqueraded"
	}
	return s
}

// Tracer runs packets through the tables of a Fake as a router would.
type Tracer struct {
	Fake *Fake
	// Local reports whether an address is this host's own.
	Local func(netip.Addr) bool
	// Choose replaces the kernel's random numbers; nil always picks 0.
	Choose func(mod uint32) uint32
}

// Trace follows one packet. It fails only for programs that the kernel would refuse.
func (t *Tracer) Trace(p Packet) (Outcome, error) {
	run := &passage{tracer: t, packet: p}
	run.out = Outcome{Dst: p.Dst, Src: p.Src, Mark: p.Mark}
	hooks := []Hook{Prerouting}
	if p.Local {
		hooks = []Hook{Output}
	}
	for len(hooks) > 0 {
		hook := hooks[0]
		hooks = hooks[1:]
		if done, err := run.hook(hook); err != nil || done {
			return run.out, err
		}
		switch {
		case hook == Prerouting && t.Local(run.out.Dst.Addr()):
			hooks = []Hook{Input}
		case hook == Prerouting:
			hooks = []Hook{Forward, Postrouting}
		case hook == Output:
			hooks = []Hook{Postrouting}
		}
	}
	run.out.Fate = Forwarded
	if t.Local(run.out.Dst.Addr()) {
		run.out.Fate = Delivered
	}
	return run.out, nil
}

// passage is one packet on its way.
type passage struct {
	tracer *Tracer
	packet Packet
	out    Outcome
	table  *Table
	regs   [64]byte
	dnat   bool
}

// hook runs all base chains of a hook by priority; done means that the packet's fate is sealed.
func (r *passage) hook(h Hook) (done bool, err error) {
	type base struct {
		table *Table
		chain *Chain
	}
	var bases []base
	for _, name := range sorted(r.tracer.Fake.Tables) {
		t := r.tracer.Fake.Tables[name]
		for _, c := range sorted(t.Chains) {
			if t.Chains[c].Hook == h {
				bases = append(bases, base{t, t.Chains[c]})
			}
		}
	}
	slices.SortStableFunc(bases, func(a, b base) int { return int(a.chain.Priority) - int(b.chain.Priority) })
	natted := false
	for _, b := range bases {
		if b.chain.Kind == NAT && (natted || r.packet.Established) {
			continue
		}
		r.table = b.table
		before := r.out
		verdict, err := r.chain(b.chain, 0)
		if err != nil {
			return true, fmt.Errorf("table %s: %w", b.table.Name, err)
		}
		if verdict.Kind == Drop {
			return true, nil
		}
		if b.chain.Kind == NAT && (before.Dst != r.out.Dst || before.Src != r.out.Src || before.Masqueraded != r.out.Masqueraded) {
			natted = true
		}
	}
	return false, nil
}

// chain runs a chain and returns Accept, Drop or Return (also at its end).
func (r *passage) chain(c *Chain, depth int) (Verdict, error) {
	if depth > 16 {
		return Verdict{}, fmt.Errorf("chain %s: jumps too deep", c.Name)
	}
	for i := range c.Rules {
		rule := &c.Rules[i]
		r.regs = [64]byte{}
		v, err := r.rule(rule)
		if err != nil {
			return v, fmt.Errorf("chain %s rule %d: %w", c.Name, i, err)
		}
		if v.Kind == NoVerdict {
			continue
		}
		r.out.Path = append(r.out.Path, c.Name+": "+v.String())
		switch v.Kind {
		case JumpTo, GoTo:
			target := r.table.Chains[v.Chain]
			if target == nil {
				return v, fmt.Errorf("chain %s: %w", v.Chain, ErrNotFound)
			}
			inner, err := r.chain(target, depth+1)
			if err != nil || inner.Kind != Return || v.Kind == GoTo {
				return inner, err
			}
		default:
			return v, nil
		}
	}
	return Verdict{Kind: Return}, nil
}

// rule runs one program; NoVerdict means that the next rule follows.
func (r *passage) rule(rule *Rule) (Verdict, error) {
	for _, op := range rule.Ops {
		v, holds, err := r.op(op)
		if err != nil {
			return Verdict{}, fmt.Errorf("%s: %w", op, err)
		}
		if !holds || v.Kind != NoVerdict {
			return v, nil
		}
	}
	return Verdict{}, nil
}

func (r *passage) at(reg Reg, n int) []byte { return r.regs[4*int(reg) : 4*int(reg)+n] }

func (r *passage) put(reg Reg, b []byte) {
	padded := (len(b) + 3) &^ 3
	to := r.at(reg, padded)
	clear(to)
	copy(to, b)
}

func (r *passage) op(op Op) (v Verdict, holds bool, err error) {
	switch o := op.(type) {
	case Load:
		b := r.field(o.Field)
		if b == nil {
			return v, false, nil
		}
		r.put(o.Reg, b)
	case Const:
		r.put(o.Reg, o.Value)
	case Bits:
		out := make([]byte, len(o.Mask))
		for i, b := range r.at(o.From, len(o.Mask)) {
			out[i] = b&o.Mask[i] ^ o.Xor[i]
		}
		r.put(o.To, out)
	case Compare:
		return v, (string(r.at(o.Reg, len(o.Value))) == string(o.Value)) != o.Not, nil
	case Random:
		n := uint32(0)
		if r.tracer.Choose != nil {
			n = r.tracer.Choose(o.Mod)
		}
		r.put(o.Reg, NumberValue(n))
	case Decide:
		if o.Verdict.Kind == Drop {
			r.out.Fate = Dropped
		}
		return o.Verdict, true, nil
	case Member, Get, Dispatch, Update:
		return r.setOp(op)
	default:
		return r.effect(op)
	}
	return v, true, nil
}

func (r *passage) setOp(op Op) (v Verdict, holds bool, err error) {
	set := r.table.Sets[setOf(op)]
	if set == nil {
		return v, false, ErrNotFound
	}
	switch o := op.(type) {
	case Member:
		_, found := r.find(set, o.Key)
		return v, found != o.Not, nil
	case Get:
		e, found := r.find(set, o.Key)
		if found {
			r.put(o.Into, e.Data)
		}
		return v, found, nil
	case Dispatch:
		e, found := r.find(set, o.Key)
		if found && e.Verdict.Kind == Drop {
			r.out.Fate = Dropped
		}
		return e.Verdict, found, nil
	case Update:
		r.update(set, o)
	}
	return v, true, nil
}

// find looks up the key that starts at a register, ranges included.
func (r *passage) find(set *Set, reg Reg) (Element, bool) {
	key := r.at(reg, Width(set.Key))
	if e, ok := set.Elements[string(key)]; ok {
		if set.Dynamic && e.Expires <= r.tracer.Fake.Now {
			delete(set.Elements, string(key))
			return Element{}, false
		}
		return e, true
	}
	if !set.Interval {
		return Element{}, false
	}
	probe := Element{Key: key}
	for _, e := range set.Elements {
		if e.End != nil && overlaps(set.Key, probe, e) {
			return e, true
		}
	}
	return Element{}, false
}

func (r *passage) update(set *Set, o Update) {
	key := append([]byte(nil), r.at(o.Key, Width(set.Key))...)
	if o.Kind == Forget {
		delete(set.Elements, string(key))
		return
	}
	e, found := r.find(set, o.Key)
	if !found {
		e = Element{Key: key, Data: append([]byte(nil), r.at(o.Data, Width(set.Data))...)}
	}
	e.Timeout = o.Timeout
	e.Expires = r.tracer.Fake.Now + o.Timeout
	set.Put(e)
}

// effect runs instructions that change the packet. NAT accepts, as in the kernel.
func (r *passage) effect(op Op) (v Verdict, holds bool, err error) {
	accept := Verdict{Kind: Accept}
	switch o := op.(type) {
	case SetMark:
		r.out.Mark = binary.NativeEndian.Uint32(r.at(o.Reg, 4))
		return v, true, nil
	case DestNAT:
		r.out.Dst = netip.AddrPortFrom(r.addr(o.Addr, o.Family), binary.BigEndian.Uint16(r.at(o.Port, 2)))
		r.dnat = true
		return accept, true, nil
	case SourceNAT:
		r.out.Src = netip.AddrPortFrom(r.addr(o.Addr, o.Family), r.out.Src.Port())
		return accept, true, nil
	case Masquerade:
		r.out.Masqueraded = true
		return accept, true, nil
	case Reject:
		if o.Kind == TCPReset && r.packet.Proto != TCP {
			return v, false, nil
		}
		r.out.Fate, r.out.Reject = Rejected, o.Kind
		return Verdict{Kind: Drop}, true, nil
	}
	return v, false, fmt.Errorf("instruction %T is unknown", op)
}

func (r *passage) addr(reg Reg, f Family) netip.Addr {
	n := 4
	if f == IPv6 {
		n = 16
	}
	a, _ := netip.AddrFromSlice(r.at(reg, n))
	return a
}

// field returns the value of a packet's property; nil when the packet has none.
func (r *passage) field(f Field) []byte {
	src, dst := r.out.Src, r.out.Dst
	is4 := dst.Addr().Is4()
	switch f {
	case Src4, Dst4, Src6, Dst6:
		addr := dst.Addr()
		if f == Src4 || f == Src6 {
			addr = src.Addr()
		}
		if is4 != (f == Src4 || f == Dst4) {
			return nil
		}
		return addr.AsSlice()
	case L4Proto:
		return ProtoValue(r.packet.Proto)
	case SrcPort:
		return PortValue(src.Port())
	case DstPort:
		return PortValue(dst.Port())
	case Mark:
		return NumberValue(r.out.Mark)
	case PacketFamily:
		return []byte{byte(Version(dst.Addr()))}
	case InIf:
		return IfNameValue(r.packet.InIf)
	case OutIf:
		return IfNameValue(r.packet.OutIf)
	default:
		return r.stateField(f)
	}
}

func (r *passage) stateField(f Field) []byte {
	kind := func(a netip.Addr) []byte {
		if r.tracer.Local(a) {
			return NumberValue(TypeLocal)
		}
		return NumberValue(TypeUnicast)
	}
	switch f {
	case CTState:
		if r.packet.Established {
			return NumberValue(StateEstablished)
		}
		return NumberValue(StateNew)
	case CTStatus:
		if r.dnat {
			return NumberValue(StatusDNAT)
		}
		return NumberValue(0)
	case SrcType:
		return kind(r.out.Src.Addr())
	case DstType:
		return kind(r.out.Dst.Addr())
	default:
		return nil
	}
}

// Advance lets the fake's time pass, so that dynamic elements expire.
func (f *Fake) Advance(d time.Duration) { f.Now += d }
