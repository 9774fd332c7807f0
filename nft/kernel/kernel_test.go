// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/nft/kernel"
	"kogge.dev/kogge/nft/nfttest"
)

func table() *nft.Table {
	t := nft.NewTable("kogge-test")
	t.AddChain(nft.Chain{Name: "in", Hook: nft.Input, Kind: nft.Filter, Rules: []nft.Rule{
		{Ops: nft.Program(nft.IsFamily(nft.IPv4), nft.LoadKey(0, nft.Src4, nft.L4Proto, nft.DstPort), nft.Do(nft.Dispatch{Map: "verdicts", Key: 0})), Comment: "what the map says"},
	}})
	t.AddChain(nft.Chain{Name: "refuse", Rules: []nft.Rule{{Ops: nft.Do(nft.Reject{Kind: nft.TCPReset})}}})
	m := t.AddSet(nft.Set{Name: "verdicts", Key: []nft.Type{nft.Addr4, nft.Proto, nft.Service}, Data: []nft.Type{nft.Jump}})
	m.Put(nft.Element{Key: nft.Concat(nft.AddrValue(nfttest.ClientAddr), nft.ProtoValue(nft.TCP), nft.PortValue(80)), Verdict: nft.Goto("refuse")})
	s := t.AddSet(nft.Set{Name: "ranges", Key: []nft.Type{nft.Addr4}, Interval: true})
	first, last := nft.Prefix(netip.MustParsePrefix("10.0.0.0/8"))
	s.Put(nft.Element{Key: first, End: last})
	first, last = nft.Prefix(netip.MustParsePrefix("255.255.0.0/16"))
	s.Put(nft.Element{Key: first, End: last})
	return t
}

func TestTransactionsReachTheKernel(t *testing.T) {
	lab := nfttest.New(t)
	w := kernel.New(kernel.Config{NetNS: int(lab.Node.NS)})
	lab.Node.Serve(80, "node")
	if got := lab.Client.Ask("tcp", "172.20.0.1:80"); got != "node 172.20.0.9" {
		t.Fatalf("before: %s", got)
	}
	one := table()
	for range 2 { // also over itself
		if err := w.Apply(nft.Replace(one)); err != nil {
			t.Fatalf("Replace: %v", err)
		}
	}
	if got := lab.Client.Ask("tcp", "172.20.0.1:80"); got != "refused" {
		t.Errorf("with a reject: %s", got)
	}
	two := table()
	clear(two.Sets["verdicts"].Elements)
	delete(two.Chains, "refuse")
	delete(two.Sets, "ranges")
	if err := w.Apply(nft.Diff(one, two)); err != nil {
		t.Fatalf("Diff: %v", err)
	}
	if got := lab.Client.Ask("tcp", "172.20.0.1:80"); got != "node 172.20.0.9" {
		t.Errorf("after the diff: %s", got)
	}
	if err := w.Apply(nft.Diff(two, one)); err != nil {
		t.Fatalf("Diff back: %v", err)
	}
	if err := w.Apply(nft.Remove(nft.INet, one.Name)); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	if there, err := w.Exists(nft.INet, one.Name); there || err != nil {
		t.Errorf("Exists after Remove = %t, %v", there, err)
	}
}

func TestFailedTransactionChangesNothing(t *testing.T) {
	lab := nfttest.New(t)
	w := kernel.New(kernel.Config{NetNS: int(lab.Node.NS)})
	one := table()
	if err := w.Apply(nft.Replace(one)); err != nil {
		t.Fatalf("Replace: %v", err)
	}
	fake := nft.NewFake()
	if err := fake.Apply(nft.Replace(one)); err != nil {
		t.Fatalf("Replace in the fake: %v", err)
	}
	m := one.Sets["verdicts"]
	var only nft.Element
	for _, e := range m.Elements {
		only = e
	}
	other := only
	other.Verdict = nft.Verdict{Kind: nft.Drop}
	absent := nft.Element{Key: nft.Concat(nft.AddrValue(nfttest.NodeAddr), nft.ProtoValue(nft.TCP), nft.PortValue(1)), Verdict: nft.Verdict{Kind: nft.Drop}}
	for _, c := range []struct {
		name string
		step nft.Step
		want error
	}{
		{"key with another value", nft.AddElements{Set: m, Elements: []nft.Element{other}}, nft.ErrExists},
		{"missing element", nft.DeleteElements{Set: m, Elements: []nft.Element{absent}}, nft.ErrNotFound},
		{"chain in use", nft.DeleteChain{Name: "refuse"}, nft.ErrBusy},
		{"set in use", nft.DeleteSet{Name: "verdicts"}, nft.ErrBusy},
		{"rule over a missing set", nft.SetRules{Chain: "refuse", Rules: []nft.Rule{{Ops: nft.Do(nft.Member{Set: "nowhere"})}}}, nft.ErrNotFound},
	} {
		tx := &nft.Transaction{Family: nft.INet, Table: one.Name, Steps: []nft.Step{
			nft.AddElements{Set: m, Elements: []nft.Element{{Key: nft.Concat(nft.AddrValue(nfttest.NodeAddr), nft.ProtoValue(nft.UDP), nft.PortValue(9)), Verdict: nft.Verdict{Kind: nft.Accept}}}},
			c.step,
		}}
		if err := w.Apply(tx); !errors.Is(err, c.want) {
			t.Errorf("%s: kernel: %v, want %v", c.name, err, c.want)
		}
		if err := fake.Apply(tx); !errors.Is(err, c.want) {
			t.Errorf("%s: fake: %v, want %v", c.name, err, c.want)
		}
		list, err := w.Elements(nft.INet, one.Name, m)
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %d elements after the failure, %v; want 1", c.name, len(list), err)
		}
	}
}

func TestDynamicElementsCanBeReadBack(t *testing.T) {
	lab := nfttest.New(t)
	w := kernel.New(kernel.Config{NetNS: int(lab.Node.NS)})
	tab := nft.NewTable("kogge-test")
	s := tab.AddSet(nft.Set{Name: "seen", Key: []nft.Type{nft.Addr4, nft.Number}, Data: []nft.Type{nft.Addr4, nft.Service}, Dynamic: true, Size: 100})
	s.Put(nft.Element{
		Key:  nft.Concat(nft.AddrValue(nfttest.ClientAddr), nft.NumberValue(7)),
		Data: nft.Concat(nft.AddrValue(nfttest.NodeAddr), nft.PortValue(80)), Timeout: time.Minute, Expires: 30 * time.Second,
	})
	if err := w.Apply(nft.Replace(tab)); err != nil {
		t.Fatalf("Replace: %v", err)
	}
	list, err := w.Elements(nft.INet, tab.Name, s)
	if err != nil || len(list) != 1 || string(list[0].Data) != string(nft.Concat(nft.AddrValue(nfttest.NodeAddr), nft.PortValue(80))) || list[0].Timeout != time.Minute {
		t.Errorf("Elements = %+v, %v", list, err)
	}
}
