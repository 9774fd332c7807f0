// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestDataDriven runs the histories in testdata. Commands: new RANGE..., allocate OWNER..., release OWNER...,
// restore OWNER ADDRESS..., fill PREFIX N (that many owners), owners, gateways.
func TestDataDriven(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		var a *Allocator
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			args := make([]string, 0, len(d.CmdArgs))
			for _, arg := range d.CmdArgs {
				args = append(args, arg.Key)
			}
			if d.Cmd == "new" {
				var ranges []netip.Prefix
				for _, arg := range args {
					p, err := netip.ParsePrefix(arg)
					if err != nil {
						t.Fatal(err)
					}
					ranges = append(ranges, p)
				}
				var err error
				if a, err = New(ranges); err != nil {
					return err.Error()
				}
				return ""
			}
			return command(t, a, d.Cmd, args)
		})
	})
}

func command(t *testing.T, a *Allocator, name string, args []string) string {
	t.Helper()
	var out strings.Builder
	switch name {
	case "allocate":
		for _, arg := range args {
			got, err := a.Allocate(Owner{ContainerID: arg, IfName: "eth0"})
			if err != nil {
				fmt.Fprintf(&out, "%s: %v\n", arg, err)
				continue
			}
			fmt.Fprintf(&out, "%s:", arg)
			for _, g := range got {
				fmt.Fprintf(&out, " %s via %s", g.Address, g.Gateway)
			}
			fmt.Fprintln(&out)
		}
	case "release":
		for _, arg := range args {
			fmt.Fprintf(&out, "%s: %v\n", arg, a.Release(Owner{ContainerID: arg, IfName: "eth0"}))
		}
	case "restore":
		var addrs []netip.Addr
		for _, arg := range args[1:] {
			addrs = append(addrs, netip.MustParseAddr(arg))
		}
		if err := a.Restore(Owner{ContainerID: args[0], IfName: "eth0"}, addrs); err != nil {
			return err.Error()
		}
	case "fill":
		var n int
		if _, err := fmt.Sscan(args[1], &n); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if _, err := a.Allocate(Owner{ContainerID: fmt.Sprint(args[0], i), IfName: "eth0"}); err != nil {
				return fmt.Sprintf("%d: %v", i, err)
			}
		}
	case "owners":
		for _, o := range a.Owners() {
			fmt.Fprintln(&out, o, a.Held(o))
		}
	case "gateways":
		fmt.Fprintln(&out, a.Gateways())
	default:
		t.Fatalf("unknown command %s", name)
	}
	return out.String()
}

// TestNoAddressHasTwoOwners runs random histories: addresses are in range, never the gateway, and never shared.
func TestNoAddressHasTwoOwners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, err := New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/28"), netip.MustParsePrefix("fd00::/124")})
		if err != nil {
			t.Fatal(err)
		}
		held := map[Owner][]netip.Addr{}
		for range 60 {
			owner := Owner{ContainerID: rapid.StringMatching("[a-t]").Draw(t, "owner"), IfName: "eth0"}
			if rapid.Bool().Draw(t, "release") {
				a.Release(owner)
				delete(held, owner)
				continue
			}
			got, err := a.Allocate(owner)
			if err != nil {
				if len(held) < 13 {
					t.Fatalf("Allocate with %d of 13 in use: %v", len(held), err)
				}
				continue
			}
			held[owner] = nil
			for _, g := range got {
				if g.Address.Addr() == g.Gateway || !g.Address.Contains(g.Gateway) {
					t.Fatalf("Allocate = %v", g)
				}
				held[owner] = append(held[owner], g.Address.Addr())
			}
		}
		seen := map[netip.Addr]Owner{}
		for owner, addrs := range held {
			for _, addr := range addrs {
				if other, ok := seen[addr]; ok {
					t.Fatalf("%s has two owners, %s and %s", addr, owner, other)
				}
				seen[addr] = owner
			}
		}
	})
}
