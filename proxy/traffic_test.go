// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/nft/kernel"
	"kogge.dev/kogge/nft/nfttest"
	"kogge.dev/kogge/proxy/rules"
)

// node is a lab with a proxy whose syncs the test runs.
type node struct {
	*nfttest.Lab
	t     *testing.T
	proxy *Proxy
}

func newNode(t *testing.T) *node {
	lab := nfttest.New(t)
	n := &node{Lab: lab, t: t}
	n.restart()
	lab.Node.Do(func() {
		br, err := netlink.LinkByName("br0")
		if err != nil {
			t.Error(err)
			return
		}
		_, dst, _ := net.ParseCIDR("10.96.0.0/12")
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: br.Attrs().Index, Dst: dst}); err != nil {
			t.Errorf("route service addresses: %v", err)
		}
	})
	return n
}

func (n *node) restart() {
	n.proxy = newProxy(n.t, Config{
		Kernel: kernel.New(kernel.Config{NetNS: int(n.Node.NS)}),
		Flows: func(fronts []rules.UDPFront) (count int, err error) {
			n.Node.Do(func() { count, err = Flows(fronts) })
			return count, err
		},
	})
	n.proxy.Synced()
}

func (n *node) sync() {
	n.t.Helper()
	if _, err := n.proxy.changes.Apply(); err != nil {
		n.t.Fatal(err)
	}
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestRealTraffic(t *testing.T) {
	n := newNode(t)
	a, b := n.Pod("10.244.0.5"), n.Pod("10.244.0.6")
	a.Serve(8080, "a")
	b.Serve(8080, "b")
	nodePort := func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
		s.Spec.ExternalIPs = []string{"198.51.100.7"}
	}
	for _, proto := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		network := strings.ToLower(string(proto))
		t.Run(network, func(t *testing.T) {
			n.t = t
			svc := service("web"+network, "10.96.1.1", proto, nodePort)
			n.proxy.Upsert(svc)
			n.sync()
			expect(t, "no endpoints, pod", a.Ask(network, "10.96.1.1:80"), "refused")
			expect(t, "no endpoints, host", n.Node.Ask(network, "10.96.1.1:80"), "refused")
			expect(t, "no endpoints, client", n.Client.Ask(network, "172.20.0.1:30080"), "refused")

			n.proxy.Upsert(endpoints("web"+network, proto, "10.244.0.5"))
			n.sync()
			expect(t, "same-node endpoint", b.Ask(network, "10.96.1.1:80"), "a 10.244.0.6")
			expect(t, "hairpin", a.Ask(network, "10.96.1.1:80"), "a 10.244.0.1")
			expect(t, "host", n.Node.Ask(network, "10.96.1.1:80"), "a 10.244.0.1")
			expect(t, "node port", n.Client.Ask(network, "172.20.0.1:30080"), "a 10.244.0.1")
			expect(t, "node port from the host", n.Node.Ask(network, "172.20.0.1:30080"), "a 10.244.0.1")
			expect(t, "node port from a pod", b.Ask(network, "172.20.0.1:30080"), "a 10.244.0.1")
			expect(t, "external address", n.Client.Ask(network, "198.51.100.7:80"), "a 10.244.0.1")
			expect(t, "cluster address from outside", n.Client.Ask(network, "10.96.1.1:80"), "a 10.244.0.1")
			expect(t, "port that does not exist", n.Node.Ask(network, "10.96.1.1:81"), "refused")

			n.proxy.Upsert(endpoints("web"+network, proto, "10.244.0.6", "10.244.0.5"))
			n.sync()
			seen := map[string]int{}
			for range 40 {
				seen[n.Client.Ask(network, "172.20.0.1:30080")]++
			}
			if len(seen) != 2 || seen["a 10.244.0.1"] == 0 || seen["b 10.244.0.1"] == 0 {
				t.Errorf("40 connections to two endpoints: %v", seen)
			}
			svc = svc.DeepCopy()
			svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			n.proxy.Upsert(svc)
			n.proxy.Upsert(endpoints("web"+network, proto, "10.244.0.6"))
			n.sync()
			expect(t, "local policy keeps the source", n.Client.Ask(network, "172.20.0.1:30080"), "b 172.20.0.9")
			expect(t, "local policy from a pod", a.Ask(network, "172.20.0.1:30080"), "b 10.244.0.5")
			n.proxy.Delete(svc)
			n.proxy.Delete(endpoints("web"+network, proto))
			n.sync()
		})
	}
}

func TestRealIPv6(t *testing.T) {
	n := newNode(t)
	a, b := n.Pod("10.244.0.5"), n.Pod("10.244.0.6")
	a.Serve(8080, "a")
	b.Serve(8080, "b")
	for _, proto := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		network := strings.ToLower(string(proto))
		svc := service("web"+network, "fd00:96::1", proto, func(s *corev1.Service) {
			s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
		})
		n.proxy.Upsert(svc)
		n.sync()
		expect(t, "no endpoints", a.Ask(network, "[fd00:96::1]:80"), "refused")
		slice := endpoints("web"+network, proto, "fd00:10::5", "fd00:10::6")
		slice.AddressType = discoveryv1.AddressTypeIPv6
		n.proxy.Upsert(slice)
		n.sync()
		seen := map[string]int{}
		for range 30 {
			seen[b.Ask(network, "[fd00:96::1]:80")]++
		}
		if len(seen) != 2 || seen["a fd00:10::6"] == 0 || seen["b fd00:10::1"] == 0 {
			t.Errorf("30 connections from an endpoint to both: %v", seen)
		}
		svc = svc.DeepCopy()
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		n.proxy.Upsert(svc)
		n.sync()
		first := b.Ask(network, "[fd00:96::1]:80")
		for range 12 {
			expect(t, "affinity", b.Ask(network, "[fd00:96::1]:80"), first)
		}
		if got := a.Ask(network, "[fd00:10::1]:30080"); !strings.HasSuffix(got, " fd00:10::1") {
			t.Errorf("node port: %q", got)
		}
		svc = svc.DeepCopy()
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		n.proxy.Upsert(svc)
		n.sync()
		if got := a.Ask(network, "[fd00:10::1]:30080"); !strings.HasPrefix(got, "a") && !strings.HasPrefix(got, "b") {
			t.Errorf("node port with local policy: %q", got)
		}
		n.proxy.Delete(svc)
		n.proxy.Delete(slice)
		n.sync()
	}
}

func TestRealHostEndpoint(t *testing.T) {
	n := newNode(t)
	pod := n.Pod("10.244.0.5")
	n.Node.Serve(6443, "api")
	n.Node.Do(func() { // as with a default route: cluster addresses leave by the link to the outside
		_, dst, _ := net.ParseCIDR("10.96.0.0/12")
		if err := netlink.RouteReplace(&netlink.Route{Gw: net.ParseIP("172.20.0.9"), Dst: dst}); err != nil {
			t.Errorf("route service addresses: %v", err)
		}
	})
	port := int32(6443)
	slice := endpoints("api", corev1.ProtocolTCP, nfttest.NodeAddr.String())
	slice.Ports[0].Port = &port
	n.proxy.Upsert(service("api", "10.96.0.1", corev1.ProtocolTCP))
	n.proxy.Upsert(slice)
	n.sync()
	expect(t, "host to itself", n.Node.Ask("tcp", "10.96.0.1:80"), "api 172.20.0.1")
	expect(t, "pod to its node", pod.Ask("tcp", "10.96.0.1:80"), "api 10.244.0.5")
}

func TestRealAffinitySurvivesRestart(t *testing.T) {
	n := newNode(t)
	var addrs []string
	for i := range 8 {
		addr := fmt.Sprintf("10.244.0.%d", 10+i)
		n.Pod(addr).Serve(8080, fmt.Sprint(i))
		addrs = append(addrs, addr)
	}
	svc := service("web", "10.96.1.1", corev1.ProtocolTCP, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	client := n.Pod("10.244.0.5")
	load := func() {
		n.proxy.Upsert(svc)
		n.proxy.Upsert(endpoints("web", corev1.ProtocolTCP, addrs...))
		n.sync()
	}
	load()
	first := client.Ask("tcp", "10.96.1.1:80")
	same := func(when string) {
		t.Helper()
		for range 12 {
			expect(t, when, client.Ask("tcp", "10.96.1.1:80"), first)
		}
	}
	same("next connections")
	n.restart()
	load()
	same("after a restart")
	for i, addr := range addrs {
		if strings.HasPrefix(first, fmt.Sprint(i)) {
			addrs = append(append([]string(nil), addrs[:i]...), addrs[i+1:]...)
			t.Logf("removing %s", addr)
			break
		}
	}
	load()
	moved := client.Ask("tcp", "10.96.1.1:80")
	if moved == first || strings.Contains("refused timeout", moved) {
		t.Errorf("after the endpoint went: %q", moved)
	}
	first = moved
	same("with the new endpoint")
}

func TestRealStaleUDPFlows(t *testing.T) {
	n := newNode(t)
	a, b, c := n.Pod("10.244.0.5"), n.Pod("10.244.0.6"), n.Pod("10.244.0.7")
	a.Serve(8080, "a")
	b.Serve(8080, "b")
	n.proxy.Upsert(service("web", "10.96.1.1", corev1.ProtocolUDP))
	n.proxy.Upsert(endpoints("web", corev1.ProtocolUDP, "10.244.0.5"))
	n.sync()
	expect(t, "first", c.AskFrom("udp", 5555, "10.96.1.1:80"), "a 10.244.0.7")
	n.proxy.Upsert(endpoints("web", corev1.ProtocolUDP, "10.244.0.6"))
	n.sync()
	expect(t, "same flow after the endpoint went", c.AskFrom("udp", 5555, "10.96.1.1:80"), "b 10.244.0.7")
}

// BenchmarkSync measures the kernel's part and ours: 10,000 Services with two endpoints each, then one change among them.
func BenchmarkSync(b *testing.B) {
	for _, count := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("full/%d", count), func(b *testing.B) {
			for b.Loop() {
				benchNode(b, count)
			}
		})
		b.Run(fmt.Sprintf("one-of/%d", count), func(b *testing.B) {
			p := benchNode(b, count)
			i := 0
			for b.Loop() {
				i++
				p.Upsert(endpoints("s7", corev1.ProtocolTCP, "10.244.0.5", fmt.Sprintf("10.244.1.%d", i%200+6)))
				if _, err := p.changes.Apply(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchNode(b *testing.B, count int) *Proxy {
	b.Helper()
	b.StopTimer()
	space := nfttest.NewSpace(b, nfttest.NodeAddr)
	p := newProxy(b, Config{Kernel: kernel.New(kernel.Config{NetNS: int(space.NS)})})
	for i := range count {
		name := fmt.Sprintf("s%d", i)
		p.Upsert(service(name, fmt.Sprintf("10.%d.%d.%d", 96+i/65536, i/256%256, i%256), corev1.ProtocolTCP))
		p.Upsert(endpoints(name, corev1.ProtocolTCP, "10.244.0.5", "10.244.1.6"))
	}
	p.Synced()
	b.StartTimer()
	if _, err := p.changes.Apply(); err != nil {
		b.Fatal(err)
	}
	return p
}
