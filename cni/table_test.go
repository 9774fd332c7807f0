// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"kogge.dev/kogge/nft"
)

// TestTable traces packets through the table. The input of "trace" is lines "PROTO SRC DST [local]"; the host has
// 192.0.2.1, 127.0.0.1, 10.244.1.1 and 2001:db8::1. The table has the ports of rulesOfTest.
func TestTable(t *testing.T) {
	fake := nft.NewFake()
	if err := fake.Apply(nft.Replace(compile(rulesOfTest()))); err != nil {
		t.Fatal(err)
	}
	own := []string{"192.0.2.1", "127.0.0.1", "10.244.1.1", "2001:db8::1"}
	tracer := nft.Tracer{Fake: fake, Local: func(a netip.Addr) bool { return slices.Contains(own, a.String()) }}
	datadriven.RunTest(t, "testdata/table", func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			p := nft.Packet{Proto: protocols()[f[0]], Src: netip.MustParseAddrPort(f[1]), Dst: netip.MustParseAddrPort(f[2]), Local: len(f) > 3}
			o, err := tracer.Trace(p)
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(strings.TrimSpace(line) + ": " + o.String() + "\n")
		}
		return out.String()
	})
}

func rulesOfTest() rules {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	return rules{
		Local:   []netip.Prefix{prefix("10.244.1.0/24"), prefix("fd00:1::/64")},
		Cluster: []netip.Prefix{prefix("10.244.0.0/16"), prefix("fd00::/16"), prefix("10.244.1.0/24")},
		Ports: []backend{
			{HostPort: 8080, Protocol: nft.TCP, Pod: addr("10.244.1.2"), PodPort: 80},
			{HostPort: 8080, Protocol: nft.TCP, Pod: addr("fd00:1::2"), PodPort: 80},
			{HostPort: 8080, Protocol: nft.UDP, Pod: addr("10.244.1.3"), PodPort: 53},
			{HostIP: addr("192.0.2.1"), HostPort: 8080, Protocol: nft.TCP, Pod: addr("10.244.1.4"), PodPort: 81},
		},
	}
}

// TestTableOnlyGrowsInMaps holds the layout: a port costs elements, never rules.
func TestTableOnlyGrowsInMaps(t *testing.T) {
	count := func(table *nft.Table) int {
		n := 0
		for _, c := range table.Chains {
			n += len(c.Rules)
		}
		return n
	}
	r := rulesOfTest()
	few := count(compile(r))
	for i := range 500 {
		r.Ports = append(r.Ports, backend{HostPort: uint16(10000 + i), Protocol: nft.TCP, Pod: netip.MustParseAddr("10.244.1.5"), PodPort: 1})
	}
	if many := count(compile(r)); many != few {
		t.Errorf("table has %d rules with 500 ports more, %d without", many, few)
	}
}
