// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package nfttest gives tests a small real network: a node with a bridge and pods behind it, and a client outside, each in a
// network namespace of its own that vanishes with the test.
//
//	client 172.20.0.9 --- 172.20.0.1 node 10.244.0.1 (br0) --- 10.244.0.N pods
package nfttest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"kogge.dev/kogge/internal/need"
)

// Addresses of the lab. Pods and clients have the node as their router.
var (
	NodeAddr   = netip.MustParseAddr("172.20.0.1")
	ClientAddr = netip.MustParseAddr("172.20.0.9")
	BridgeAddr = netip.MustParseAddr("10.244.0.1")
	PodCIDR    = netip.MustParsePrefix("10.244.0.0/16")
	// Pods have IPv6 too: fd00:10::N.
	BridgeAddr6 = netip.MustParseAddr("fd00:10::1")
	PodCIDR6    = netip.MustParsePrefix("fd00:10::/48")
)

// Lab is the network. Its methods fail the test on errors.
type Lab struct {
	t      testing.TB
	Node   *Space
	Client *Space
}

// Space is one network namespace.
type Space struct {
	t testing.TB
	// NS is the open namespace, for nft/kernel's Config.
	NS   netns.NsHandle
	Addr netip.Addr
}

// New makes a lab, or skips the test where that needs root.
func New(t testing.TB) *Lab {
	t.Helper()
	need.Root(t, "network namespaces are made")
	l := &Lab{t: t, Node: NewSpace(t, NodeAddr), Client: NewSpace(t, ClientAddr)}
	l.Node.Do(func() {
		// A fixed hardware address: else the bridge takes on another with each port, and pods' first packets go astray.
		mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 1}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: mac}}
		must(t, "add bridge", netlink.LinkAdd(bridge))
		assign(t, bridge, BridgeAddr, 24)
		assign(t, bridge, BridgeAddr6, 64)
		write(t, "/proc/sys/net/ipv4/ip_forward", "1")
		write(t, "/proc/sys/net/ipv6/conf/all/forwarding", "1")
	})
	l.join(l.Client, "eth0", NodeAddr, "")
	return l
}

// Pod adds a pod with an address inside 10.244.0.0/24.
func (l *Lab) Pod(addr string) *Space {
	l.t.Helper()
	p := NewSpace(l.t, netip.MustParseAddr(addr))
	last := addr[len("10.244.0."):]
	l.join(p, "veth"+last, BridgeAddr, "br0")
	p.Do(func() {
		eth, err := netlink.LinkByName("eth0")
		must(l.t, "find eth0", err)
		assign(l.t, eth, netip.MustParseAddr("fd00:10::"+last), 64)
		must(l.t, "add default route", netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IP(BridgeAddr6.AsSlice())}))
	})
	return p
}

// join links a namespace to the node, directly or over the bridge, and routes it through the gateway.
func (l *Lab) join(s *Space, nodeIf string, gateway netip.Addr, bridge string) {
	l.t.Helper()
	l.Node.Do(func() {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nodeIf}, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.NS),
		}
		must(l.t, "add veth", netlink.LinkAdd(veth))
		if bridge == "" {
			assign(l.t, veth, gateway, 24)
			return
		}
		br, err := netlink.LinkByName(bridge)
		must(l.t, "find bridge", err)
		must(l.t, "join bridge", netlink.LinkSetMaster(veth, br))
		must(l.t, "set hairpin", netlink.LinkSetHairpin(veth, true))
		must(l.t, "set up", netlink.LinkSetUp(veth))
	})
	s.Do(func() {
		eth, err := netlink.LinkByName("eth0")
		must(l.t, "find eth0", err)
		assign(l.t, eth, s.Addr, 24)
		must(l.t, "add default route", netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IP(gateway.AsSlice())}))
	})
}

// NewSpace makes a namespace of its own with only lo.
func NewSpace(t testing.TB, addr netip.Addr) *Space {
	t.Helper()
	s := &Space{t: t, Addr: addr}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with its namespace
		var err error
		s.NS, err = netns.New()
		done <- err
	}()
	must(t, "make network namespace", <-done)
	t.Cleanup(func() { s.NS.Close() })
	s.Do(func() {
		lo, err := netlink.LinkByName("lo")
		must(t, "find lo", err)
		must(t, "set lo up", netlink.LinkSetUp(lo))
	})
	return s
}

// Do runs f inside the namespace. Sockets that f opens stay there.
func (s *Space) Do(f func()) {
	s.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(s.NS); err != nil {
			done <- err
			return
		}
		defer close(done)
		f()
	}()
	must(s.t, "enter network namespace", <-done)
}

// Serve answers every TCP connection and UDP datagram on the port with the name and the peer's address: "name 10.0.0.1".
func (s *Space) Serve(port uint16, name string) {
	s.t.Helper()
	s.Do(func() {
		l, err := new(net.ListenConfig).Listen(s.t.Context(), "tcp", fmt.Sprintf(":%d", port))
		must(s.t, "listen", err)
		s.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s %s", name, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().Unmap())
				c.Close()
			}
		}()
		u, err := new(net.ListenConfig).ListenPacket(s.t.Context(), "udp", fmt.Sprintf(":%d", port))
		must(s.t, "listen", err)
		s.t.Cleanup(func() { u.Close() })
		go func() {
			buf := make([]byte, 1500)
			for {
				_, from, err := u.ReadFrom(buf)
				if err != nil {
					return
				}
				fmt.Fprintf(writerTo{u, from}, "%s %s", name, netip.MustParseAddrPort(from.String()).Addr().Unmap())
			}
		}()
	})
}

type writerTo struct {
	conn net.PacketConn
	to   net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.conn.WriteTo(b, w.to) }

// Ask connects to an address and returns the answer, or "refused", "unreachable" or "timeout".
func (s *Space) Ask(network, addr string) string {
	s.t.Helper()
	return s.ask(network, 0, addr, patience)
}

// AskBriefly is Ask where nobody is expected to answer.
func (s *Space) AskBriefly(network, addr string) string {
	s.t.Helper()
	return s.ask(network, 0, addr, 300*time.Millisecond)
}

// AskFrom is Ask from a given source port.
func (s *Space) AskFrom(network string, port uint16, addr string) string {
	s.t.Helper()
	return s.ask(network, port, addr, patience)
}

// patience is how long an answer may take on a busy machine.
const patience = 5 * time.Second

func (s *Space) ask(network string, port uint16, addr string, timeout time.Duration) string {
	s.t.Helper()
	answer := ""
	s.Do(func() {
		d := net.Dialer{Timeout: timeout}
		if port != 0 {
			d.LocalAddr = &net.UDPAddr{Port: int(port)}
		}
		c, err := d.Dial(network, addr)
		if err != nil {
			answer = reason(err)
			return
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
			answer = reason(err)
			return
		}
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				answer = reason(err)
				return
			}
		}
		buf := make([]byte, 256)
		n, err := c.Read(buf)
		if err != nil {
			answer = reason(err)
			return
		}
		answer = string(buf[:n])
	})
	return answer
}

func reason(err error) string {
	text := err.Error()
	switch {
	case os.IsTimeout(err):
		return "timeout"
	case strings.Contains(text, "refused"), strings.Contains(text, "not permitted"): // EPERM is how a local sender of UDP learns it
		return "refused"
	case strings.Contains(text, "unreachable"), strings.Contains(text, "no route"):
		return "unreachable"
	}
	return text
}

func assign(t testing.TB, link netlink.Link, addr netip.Addr, bits int) {
	t.Helper()
	must(t, "set up", netlink.LinkSetUp(link))
	ipnet := &net.IPNet{IP: net.IP(addr.AsSlice()), Mask: net.CIDRMask(bits, addr.BitLen())}
	a := &netlink.Addr{IPNet: ipnet}
	if addr.Is6() {
		a.Flags = unix.IFA_F_NODAD // usable at once
	}
	must(t, "assign address", netlink.AddrAdd(link, a))
}

func write(t testing.TB, path, value string) {
	t.Helper()
	must(t, "write sysctl", os.WriteFile(path, []byte(value), 0o644))
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
