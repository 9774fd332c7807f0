// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kogge.dev/kogge/nft"
)

// drawTable makes a small valid table: chains that jump forward, sets, maps and verdict maps whose shapes vary.
func drawTable(t *rapid.T, label string) *nft.Table {
	tab := nft.NewTable("t")
	for i := range rapid.IntRange(0, 3).Draw(t, label+"sets") {
		shape := nft.Set{Name: fmt.Sprintf("set%d", i), Key: []nft.Type{nft.Addr4}}
		if rapid.Bool().Draw(t, "wide") {
			shape.Key = append(shape.Key, nft.Service)
		}
		if rapid.Bool().Draw(t, "map") {
			shape.Data = []nft.Type{nft.Service}
		}
		s := tab.AddSet(shape)
		for _, n := range rapid.SliceOfDistinct(rapid.ByteMax(5), rapid.ID[byte]).Draw(t, "keys") {
			fields := [][]byte{{10, 0, 0, n}}
			if len(shape.Key) > 1 {
				fields = append(fields, nft.PortValue(80))
			}
			e := nft.Element{Key: nft.Concat(fields...)}
			if s.IsMap() {
				e.Data = nft.PortValue(rapid.Uint16Max(2).Draw(t, "port"))
			}
			s.Put(e)
		}
	}
	chains := rapid.IntRange(1, 4).Draw(t, label+"chains")
	for i := range chains {
		c := nft.Chain{Name: fmt.Sprintf("c%d", i)}
		if i == 0 {
			c.Hook, c.Kind, c.Priority = nft.Forward, nft.Filter, int32(rapid.IntRange(0, 1).Draw(t, "priority"))
		}
		for name, s := range tab.Sets {
			if rapid.Bool().Draw(t, "uses "+name) {
				if s.IsMap() {
					c.Rules = append(c.Rules, nft.Rule{Ops: nft.Do(nft.Get{Map: name, Into: 4})})
				} else {
					c.Rules = append(c.Rules, nft.Rule{Ops: nft.Do(nft.Member{Set: name})})
				}
			}
		}
		if i+1 < chains && rapid.Bool().Draw(t, "jumps") {
			c.Rules = append(c.Rules, nft.Rule{Ops: nft.DoJump(fmt.Sprintf("c%d", i+1))})
		}
		tab.AddChain(c)
	}
	if rapid.Bool().Draw(t, label+"verdicts") {
		v := tab.AddSet(nft.Set{Name: "verdicts", Key: []nft.Type{nft.Service}, Data: []nft.Type{nft.Jump}})
		for p := range uint16(3) {
			to := rapid.IntRange(0, chains).Draw(t, "to")
			if to > 0 && to < chains {
				v.Put(nft.Element{Key: nft.PortValue(p), Verdict: nft.Goto(fmt.Sprintf("c%d", to))})
			}
		}
	}
	return tab
}

func TestDiffLeadsFromAnyTableToAnyOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fake := nft.NewFake()
		var old *nft.Table
		for i := range 3 {
			next := drawTable(t, fmt.Sprint(i))
			tx := nft.Diff(old, next)
			if err := fake.Apply(tx); err != nil {
				t.Fatalf("Apply: %v\nfrom %v\nto %v\n%#v", err, old, next, tx.Steps)
			}
			if diff := cmp.Diff(next.String(), fake.Tables["t"].String()); diff != "" {
				t.Fatalf("table (-want +got):\n%s", diff)
			}
			if again := nft.Diff(next, next); !again.Empty() {
				t.Fatalf("difference of a table to itself: %#v", again.Steps)
			}
			old = next
		}
		if err := fake.Apply(nft.Replace(drawTable(t, "last"))); err != nil {
			t.Fatalf("Replace: %v", err)
		}
		if err := fake.Apply(nft.Diff(fake.Tables["t"], nil)); err != nil || len(fake.Tables) != 0 {
			t.Fatalf("removing: %v, %d tables", err, len(fake.Tables))
		}
	})
}

func TestFakeRefusesWhatTheKernelWould(t *testing.T) {
	addr := nft.Set{Name: "s", Key: []nft.Type{nft.Addr4}, Interval: true}
	first, last := nft.Prefix(netip.MustParsePrefix("10.0.0.0/8"))
	inner, innerEnd := nft.Prefix(netip.MustParsePrefix("10.1.0.0/16"))
	for _, c := range []struct {
		name  string
		steps []nft.Step
		want  error // nil means any
	}{
		{"no table", []nft.Step{nft.AddChain{Chain: nft.Chain{Name: "c"}}}, nft.ErrNotFound},
		{"jump to nowhere", []nft.Step{nft.AddTable{}, nft.AddChain{Chain: nft.Chain{Name: "c"}}, nft.SetRules{Chain: "c", Rules: []nft.Rule{{Ops: nft.DoJump("x")}}}}, nft.ErrNotFound},
		{"overlapping ranges", []nft.Step{nft.AddTable{}, nft.AddSet{Set: addr}, nft.AddElements{Set: &addr, Elements: []nft.Element{{Key: first, End: last}, {Key: inner, End: innerEnd}}}}, nft.ErrExists},
		{"key of the wrong width", []nft.Step{nft.AddTable{}, nft.AddSet{Set: addr}, nft.AddElements{Set: &addr, Elements: []nft.Element{{Key: []byte{1}}}}}, nil},
		{"dynamic set without a size", []nft.Step{nft.AddTable{}, nft.AddSet{Set: nft.Set{Name: "d", Key: addr.Key, Dynamic: true}}}, nil},
		{"membership of a map", []nft.Step{
			nft.AddTable{},
			nft.AddSet{Set: nft.Set{Name: "m", Key: addr.Key, Data: addr.Key}},
			nft.AddChain{Chain: nft.Chain{Name: "c"}},
			nft.SetRules{Chain: "c", Rules: []nft.Rule{{Ops: nft.Do(nft.Member{Set: "m"})}}},
		}, nil},
		{"a long comment", []nft.Step{nft.AddTable{}, nft.AddChain{Chain: nft.Chain{Name: "c"}}, nft.SetRules{Chain: "c", Rules: []nft.Rule{{Comment: string(make([]byte, 200))}}}}, nil},
	} {
		fake := nft.NewFake()
		err := fake.Apply(&nft.Transaction{Family: nft.INet, Table: "t", Steps: c.steps})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if len(fake.Tables) != 0 {
			t.Errorf("%s: the failed transaction left a table", c.name)
		}
	}
}

func TestTracer(t *testing.T) {
	client, host, pod := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.1.1:8080")
	tab := nft.NewTable("t")
	tab.AddChain(nft.Chain{Name: "early", Hook: nft.Prerouting, Kind: nft.Filter, Priority: -110, Rules: []nft.Rule{
		{Ops: nft.Program(nft.Is(nft.DstPort, nft.PortValue(1)), nft.DoDrop())},
		{Ops: nft.Program(nft.Is(nft.DstPort, nft.PortValue(2)), nft.Do(nft.Reject{Kind: nft.TCPReset}))},
		{Ops: nft.Program(nft.Is(nft.DstPort, nft.PortValue(3)), nft.DoJump("sub"))},
		{Ops: nft.Program(nft.Is(nft.DstPort, nft.PortValue(3)), nft.AddMark(4))},
	}})
	tab.AddChain(nft.Chain{Name: "sub", Rules: []nft.Rule{{Ops: nft.AddMark(1)}, {Ops: nft.DoReturn()}, {Ops: nft.DoDrop()}}})
	tab.AddChain(nft.Chain{Name: "dnat", Hook: nft.Prerouting, Kind: nft.NAT, Priority: nft.PriorityDstNAT, Rules: []nft.Rule{
		{Ops: nft.Program(nft.IsFamily(nft.IPv4), nft.IsLocal(nft.DstType), nft.Is(nft.DstPort, nft.PortValue(80)), nft.Do(
			nft.Const{Reg: 0, Value: nft.AddrValue(pod.Addr())}, nft.Const{Reg: 1, Value: nft.PortValue(8080)}, nft.DestNAT{Family: nft.IPv4, Addr: 0, Port: 1},
		))},
	}})
	tab.AddChain(nft.Chain{Name: "snat", Hook: nft.Postrouting, Kind: nft.NAT, Priority: nft.PrioritySrcNAT, Rules: []nft.Rule{
		{Ops: nft.Program(nft.HasBits(nft.CTStatus, nft.StatusDNAT), nft.Is(nft.Src4, nft.AddrValue(client.Addr())), nft.Do(nft.Masquerade{}))},
	}})
	fake := nft.NewFake()
	if err := fake.Apply(nft.Replace(tab)); err != nil {
		t.Fatal(err)
	}
	tracer := nft.Tracer{Fake: fake, Local: func(a netip.Addr) bool { return a == host.Addr() }}
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(host.Addr(), port) }
	for _, c := range []struct {
		p    nft.Packet
		want string
		mark uint32
	}{
		{nft.Packet{Proto: nft.TCP, Src: client, Dst: host}, "forwarded to 10.0.1.1:8080 masqueraded", 0},
		{nft.Packet{Proto: nft.TCP, Src: pod, Dst: host}, "forwarded to 10.0.1.1:8080", 0},
		{nft.Packet{Proto: nft.TCP, Src: client, Dst: host, Established: true}, "delivered to 10.0.0.1:80", 0},
		{nft.Packet{Proto: nft.TCP, Src: client, Dst: at(1)}, "dropped", 0},
		{nft.Packet{Proto: nft.TCP, Src: client, Dst: at(2)}, "with tcp reset rejected", 0},
		{nft.Packet{Proto: nft.UDP, Src: client, Dst: at(2)}, "delivered to 10.0.0.1:2", 0},
		{nft.Packet{Proto: nft.TCP, Src: client, Dst: at(3)}, "delivered to 10.0.0.1:3", 5},
		{nft.Packet{Proto: nft.TCP, Src: host, Dst: host, Local: true}, "delivered to 10.0.0.1:80", 0},
	} {
		out, err := tracer.Trace(c.p)
		if err != nil || out.String() != c.want || out.Mark != c.mark {
			t.Errorf("Trace(%v) = %q mark %d, %v; want %q mark %d (%v)", c.p, out, out.Mark, err, c.want, c.mark, out.Path)
		}
	}
}

func TestDynamicElementsExpire(t *testing.T) {
	tab := nft.NewTable("t")
	tab.AddSet(nft.Set{Name: "seen", Key: []nft.Type{nft.Addr4}, Dynamic: true, Size: 10})
	tab.AddChain(nft.Chain{Name: "c", Hook: nft.Prerouting, Kind: nft.Filter, Rules: []nft.Rule{
		{Ops: nft.Program(nft.LoadKey(0, nft.Src4), nft.Do(nft.Member{Set: "seen"}), nft.DoDrop())},
		{Ops: nft.Program(nft.LoadKey(0, nft.Src4), nft.Do(nft.Update{Set: "seen", Kind: nft.Refresh, Timeout: time.Minute}))},
	}})
	fake := nft.NewFake()
	if err := fake.Apply(nft.Replace(tab)); err != nil {
		t.Fatal(err)
	}
	tracer := nft.Tracer{Fake: fake, Local: func(netip.Addr) bool { return false }}
	p := nft.Packet{Proto: nft.UDP, Src: netip.MustParseAddrPort("192.0.2.1:1"), Dst: netip.MustParseAddrPort("192.0.2.2:2")}
	for i, want := range []nft.Fate{nft.Forwarded, nft.Dropped, nft.Forwarded} {
		if i == 2 {
			fake.Advance(time.Minute)
		}
		if out, err := tracer.Trace(p); err != nil || out.Fate != want {
			t.Errorf("packet %d: %v, %v; want %s", i, out, err, want)
		}
	}
}
