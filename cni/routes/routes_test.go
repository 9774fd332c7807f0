// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package routes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/ledger"
)

func node(t *testing.T, name, addresses, cidrs string) Node {
	t.Helper()
	n := Node{Name: name}
	for a := range strings.FieldsSeq(addresses) {
		n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
	}
	for c := range strings.FieldsSeq(cidrs) {
		n.PodCIDRs = append(n.PodCIDRs, netip.MustParsePrefix(c))
	}
	return n
}

// TestPlan: input lines are "name | addresses | pod ranges", the first for this node. 192.0.2.0/24 and 2001:db8::/64 are on eth0,
// 203.0.113.0/24 is unreachable, all else is behind a router.
func TestPlan(t *testing.T) {
	onLink := func(a netip.Addr) (string, error) {
		switch {
		case netip.MustParsePrefix("192.0.2.0/24").Contains(a), netip.MustParsePrefix("2001:db8::/64").Contains(a):
			return "eth0", nil
		case netip.MustParsePrefix("203.0.113.0/24").Contains(a):
			return "", errors.New("network is unreachable")
		}
		return "", nil
	}
	datadriven.RunTest(t, "testdata/plan", func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		var nodes []Node
		for line := range strings.Lines(d.Input) {
			f := strings.Split(strings.TrimSpace(line), "|")
			nodes = append(nodes, node(t, strings.TrimSpace(f[0]), f[1], f[2]))
		}
		p, err := makePlan(nodes[0], nodes[1:], "vx", onLink)
		var out strings.Builder
		for _, r := range append(p.direct, p.tunnelled...) {
			fmt.Fprintf(&out, "%s via %s dev %s\n", r.Dst, r.Via, r.Dev)
		}
		for _, peer := range p.peers {
			fmt.Fprintf(&out, "tunnel %s -> %s %s for %v\n", p.local, peer.Remote, peer.MAC, peer.Addresses)
		}
		if err != nil {
			fmt.Fprintln(&out, "error:", err)
		}
		return out.String()
	})
}

// site is one node in a namespace with an address on a wire.
type site struct {
	Node

	ns     string
	host   *hostnet.Host
	router *Router
}

// TestPacketsArrive builds three nodes: a and b on one link, c behind a router. A packet from a's pod address to each of
// the others' arrives with its source, before and after a resync, and the routes go with their node.
func TestPacketsArrive(t *testing.T) {
	need.Root(t, "network namespaces are made")
	dir, err := os.MkdirTemp("/tmp", "kogge-rt-routes-") //nolint:usetesting // Unix sockets lie in it: its path must be short.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := wires{t: t, dir: dir}
	router := w.host("router")
	w.bridge(router, "lan1", "192.0.2.254/24")
	w.bridge(router, "lan2", "198.51.100.254/24")
	if err := router.SetSysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	a := w.site(router, "a", "lan1", "192.0.2.1", "10.244.1.0/24 fd00:1::/64")
	b := w.site(router, "b", "lan1", "192.0.2.2", "10.244.2.0/24")
	c := w.site(router, "c", "lan2", "198.51.100.3", "10.244.3.0/24 fd00:3::/64")
	all := []*site{a, b, c}
	for range 2 {
		for _, s := range all {
			var peers []Node
			for _, o := range all {
				if o != s {
					peers = append(peers, o.Node)
				}
			}
			if err := s.router.Sync(t.Context(), s.Node, peers); err != nil {
				t.Fatalf("Sync %s: %v", s.Name, err)
			}
		}
	}
	w.send(a, b, "10.244.1.9", "10.244.2.9")
	w.send(a, c, "10.244.1.9", "10.244.3.9")
	w.send(c, b, "10.244.3.9", "10.244.2.9")
	w.send(a, c, "fd00:1::9", "fd00:3::9")
	if err := a.router.Sync(t.Context(), a.Node, nil); err != nil {
		t.Fatal(err)
	}
	routes, err := a.host.Routes()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Dst.Bits() != 0 {
			t.Errorf("route to %s is left after the nodes are gone", r.Dst)
		}
	}
	if _, err := a.host.Link("kogge-vx"); !errors.Is(err, hostnet.ErrNotFound) {
		t.Errorf("tunnel after the nodes are gone: %v, want ErrNotFound", err)
	}
}

// wires makes namespaces and links of a test.
type wires struct {
	t   *testing.T
	dir string
}

func (w wires) host(name string) *hostnet.Host {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := hostnet.CreateNamespace(path); err != nil {
		w.t.Fatal(err)
	}
	host, err := hostnet.New(path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = host.Close(); _ = hostnet.RemoveNamespace(path) })
	w.must(host.SetUp("lo"))
	return host
}

func (w wires) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w wires) bridge(h *hostnet.Host, name, address string) {
	w.t.Helper()
	w.must(h.EnsureBridge(hostnet.Bridge{Name: name, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}}))
}

// site makes a node whose pods are addresses on a bridge of its own.
func (w wires) site(router *hostnet.Host, name, lan, address, cidrs string) *site {
	w.t.Helper()
	s := &site{Node: node(w.t, name, address, cidrs), ns: filepath.Join(w.dir, name), host: w.host(name)}
	w.must(router.CreateVeth(hostnet.Veth{Name: "to-" + name, PeerName: "eth0", Peer: s.host.Namespace(), Bridge: lan}))
	w.must(s.host.SetUp("eth0"))
	w.must(s.host.EnsureAddress("eth0", netip.MustParsePrefix(address+"/24")))
	gateway := address[:strings.LastIndex(address, ".")] + ".254"
	w.must(s.host.EnsureRoute(hostnet.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(gateway), Dev: "eth0"}))
	pods := hostnet.Bridge{Name: "pods"}
	for _, c := range s.PodCIDRs {
		nine := c.Addr().AsSlice()
		nine[len(nine)-1] = 9
		addr, _ := netip.AddrFromSlice(nine)
		pods.Addresses = append(pods.Addresses, netip.PrefixFrom(addr, c.Bits()))
	}
	w.must(s.host.EnsureBridge(pods))
	l, err := ledger.Open(ledger.Config{Path: filepath.Join(w.dir, name+".ledger"), NetNS: s.ns})
	w.must(err)
	s.router, err = New(Config{NetNS: s.ns, Bridge: "pods", Ledger: l, ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/16")}})
	w.must(err)
	w.t.Cleanup(func() { _ = s.router.Close(); _ = l.Close() })
	return s
}

// send carries one datagram from an address of one site to an address of another and checks its source.
func (w wires) send(from, to *site, src, dst string) {
	w.t.Helper()
	var server net.PacketConn
	w.must(to.host.Namespace().Do(func() (err error) {
		server, err = (&net.ListenConfig{}).ListenPacket(w.t.Context(), "udp", net.JoinHostPort(dst, "0"))
		return err
	}))
	defer server.Close()
	w.must(from.host.Namespace().Do(func() error {
		dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(src), 0))}
		conn, err := dialer.DialContext(w.t.Context(), "udp", server.LocalAddr().String())
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("ahoy"))
		return errors.Join(err, conn.Close())
	}))
	w.must(server.SetReadDeadline(time.Now().Add(5 * time.Second)))
	buf := make([]byte, 16)
	n, peer, err := server.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ahoy" {
		w.t.Errorf("%s to %s: %q, %v, want ahoy", src, dst, buf[:n], err)
		return
	}
	if host, _, _ := net.SplitHostPort(peer.String()); host != src {
		w.t.Errorf("%s to %s arrived from %s", src, dst, host)
	}
}
