// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/nft"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// world is a core with a fake kernel that its transactions go to.
type world struct {
	t    *testing.T
	core *Core
	fake *nft.Fake
	pick uint32
	last Change
}

var hostAddrs = []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("127.0.0.1")}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	config := Config{
		Node: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10::/32")},
		NodeAddresses: hostAddrs[:1],
	}
	for _, f := range change {
		f(&config)
	}
	w := &world{t: t, core: New(config), fake: nft.NewFake()}
	if err := w.fake.Apply(nft.Replace(w.core.Table())); err != nil {
		t.Fatalf("apply skeleton: %v", err)
	}
	return w
}

// sync flushes and checks that the increments lead to the same table as a full compilation.
func (w *world) sync() {
	w.t.Helper()
	w.last = w.core.Flush()
	if err := w.fake.Apply(w.last.Tx); err != nil {
		w.t.Fatalf("Apply: %v", err)
	}
	got := *w.fake.Tables[TableName]
	want := w.core.Table()
	for name, s := range got.Sets {
		if s.Dynamic {
			want.Sets[name].Elements = s.Elements
		}
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		w.t.Fatalf("incremental table differs from the full one (-full +incremental):\n%s", diff)
	}
}

func (w *world) send(src, dst string, proto uint8) string {
	w.t.Helper()
	p := nft.Packet{Proto: proto, Src: netip.AddrPortFrom(netip.MustParseAddr(src), 40000), Dst: netip.MustParseAddrPort(dst)}
	local := func(a netip.Addr) bool {
		return slices.Contains(hostAddrs, a)
	}
	p.Local = local(p.Src.Addr())
	tr := nft.Tracer{Fake: w.fake, Local: local, Choose: func(mod uint32) uint32 { return w.pick % mod }}
	out, err := tr.Trace(p)
	if err != nil {
		w.t.Fatalf("Trace(%s -> %s): %v", src, dst, err)
	}
	return out.String()
}

func (w *world) expect(src, dst, want string) {
	w.t.Helper()
	if got := w.send(src, dst, nft.TCP); got != want {
		w.t.Errorf("packet from %s to %s: got %q, want %q", src, dst, got, want)
	}
}

func svc(name, ip string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0))},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// ep is "address[@node][!state]" in short.
type ep struct {
	addr, node string
	not        string // "ready" or "" ; "draining" is serving and terminating
	zone       string
}

func slice(service string, eps ...ep) *discoveryv1.EndpointSlice {
	port, proto, name := int32(8080), corev1.ProtocolTCP, ""
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
	}
	for _, e := range eps {
		yes, no := true, false
		out := discoveryv1.Endpoint{Addresses: []string{e.addr}, NodeName: &e.node, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}}
		if netip.MustParseAddr(e.addr).Is6() {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		switch e.not {
		case "ready":
			out.Conditions.Ready, out.Conditions.Serving = &no, &no
		case "draining":
			out.Conditions.Ready, out.Conditions.Terminating = &no, &yes
		}
		if e.zone != "" {
			out.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: e.zone}}}
		}
		s.Endpoints = append(s.Endpoints, out)
	}
	return s
}

const (
	podA, podB   = "10.244.0.5", "10.244.1.7" // podA is on this node
	host, client = "192.168.0.1", "172.20.0.9"
)

func TestClusterIP(t *testing.T) {
	w := newWorld(t)
	w.core.SetService(svc("web", "10.96.1.1"))
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1"}, ep{addr: podB, node: "n2"}))
	w.sync()
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.0.5:8080")
	w.pick = 1
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	w.expect(host, "10.96.1.1:80", "forwarded to 10.244.1.7:8080 masqueraded")
	w.expect("10.244.0.9", "10.96.1.1:81", "with tcp reset rejected")
	w.expect("10.244.0.9", "10.244.1.7:8080", "forwarded to 10.244.1.7:8080")
	w.pick = 0
	w.expect(podA, "10.96.1.1:80", "forwarded to 10.244.0.5:8080 masqueraded")

	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}))
	w.sync()
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	w.core.SetSlice(slice("web"))
	w.sync()
	w.expect("10.244.0.9", "10.96.1.1:80", "with tcp reset rejected")
	w.expect(host, "10.96.1.1:80", "with tcp reset rejected")
	w.core.DeleteService(types.NamespacedName{Namespace: "default", Name: "web"})
	w.sync()
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.96.1.1:80")
	w.core.DeleteSlice(slice("web"))
	w.sync()
	if diff := cmp.Diff(newWorld(t).core.Table().String(), w.fake.Tables[TableName].String()); diff != "" {
		t.Errorf("deleted service leaves traces:\n%s", diff)
	}
}

func TestUnreadyEndpointsServeOnlyWhileDraining(t *testing.T) {
	w := newWorld(t)
	w.core.SetService(svc("web", "10.96.1.1"))
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1", not: "draining"}, ep{addr: podB, node: "n2", not: "ready"}))
	w.sync()
	for w.pick = range 2 {
		w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.0.5:8080")
	}
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1", not: "draining"}, ep{addr: podB, node: "n2"}))
	w.sync()
	for w.pick = range 2 {
		w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	}
}

func nodePort(p int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = p
	}
}

func balancer(ips ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, ip := range ips {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
	}
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func TestNodePortAndExternalAddresses(t *testing.T) {
	w := newWorld(t)
	w.core.SetService(svc("web", "10.96.1.1", nodePort(30080), balancer("203.0.113.5"), func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.7"} }))
	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}))
	w.sync()
	for _, dst := range []string{"192.168.0.1:30080", "10.244.0.1:30080", "203.0.113.5:80", "198.51.100.7:80"} {
		w.expect(client, dst, "forwarded to 10.244.1.7:8080 masqueraded")
		w.expect(podA, dst, "forwarded to 10.244.1.7:8080 masqueraded")
		w.expect(host, dst, "forwarded to 10.244.1.7:8080 masqueraded")
	}
	w.expect(client, "192.168.0.2:30080", "forwarded to 192.168.0.2:30080")
	w.expect(host, "127.0.0.1:30080", "delivered to 127.0.0.1:30080")
	w.core.SetSlice(slice("web"))
	w.sync()
	w.expect(client, "192.168.0.1:30080", "with tcp reset rejected")
	w.expect(client, "203.0.113.5:80", "with tcp reset rejected")
}

func TestNodePortCIDRs(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.NodePortCIDRs = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")} })
	w.core.SetService(svc("web", "10.96.1.1", nodePort(30080)))
	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}))
	w.sync()
	w.expect(client, "192.168.0.1:30080", "forwarded to 10.244.1.7:8080 masqueraded")
	w.expect(client, "10.244.0.1:30080", "delivered to 10.244.0.1:30080")
}

func TestProxyModeBalancerAddressIsNotAFront(t *testing.T) {
	w := newWorld(t)
	mode := corev1.LoadBalancerIPModeProxy
	w.core.SetService(svc("web", "10.96.1.1", balancer("203.0.113.5"), func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].IPMode = &mode }))
	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}))
	w.sync()
	w.expect(client, "203.0.113.5:80", "forwarded to 203.0.113.5:80")
}

func TestExternalTrafficPolicyLocal(t *testing.T) {
	w := newWorld(t)
	s := svc("web", "10.96.1.1", nodePort(30080), balancer("203.0.113.5"), externalLocal, func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 31999 })
	w.core.SetService(s)
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1"}, ep{addr: podB, node: "n2"}))
	w.sync()
	w.pick = 1
	for _, dst := range []string{"192.168.0.1:30080", "203.0.113.5:80"} {
		w.expect(client, dst, "forwarded to 10.244.0.5:8080")
		w.expect("10.244.0.9", dst, "forwarded to 10.244.1.7:8080")
		w.expect(host, dst, "forwarded to 10.244.1.7:8080 masqueraded")
	}
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	if got, want := w.last.Health[name], (Health{Port: 31999, LocalEndpoints: 1}); got != want {
		t.Errorf("health = %+v, want %+v", got, want)
	}
	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}))
	w.sync()
	if got, want := w.last.Health[name], (Health{Port: 31999}); got != want {
		t.Errorf("health = %+v, want %+v", got, want)
	}
	for _, dst := range []string{"192.168.0.1:30080", "203.0.113.5:80"} {
		w.expect(client, dst, "dropped")
		w.expect("10.244.0.9", dst, "forwarded to 10.244.1.7:8080")
		w.expect(host, dst, "forwarded to 10.244.1.7:8080 masqueraded")
	}
	w.core.SetSlice(slice("web"))
	w.sync()
	w.expect(client, "203.0.113.5:80", "with tcp reset rejected")
}

func TestInternalTrafficPolicyLocal(t *testing.T) {
	w := newWorld(t)
	local := corev1.ServiceInternalTrafficPolicyLocal
	w.core.SetService(svc("web", "10.96.1.1", nodePort(30080), func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }))
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1"}, ep{addr: podB, node: "n2"}))
	w.sync()
	w.pick = 1
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.0.5:8080")
	w.expect(client, "192.168.0.1:30080", "forwarded to 10.244.1.7:8080 masqueraded")
	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}))
	w.sync()
	w.expect("10.244.0.9", "10.96.1.1:80", "dropped")
	w.expect(client, "192.168.0.1:30080", "forwarded to 10.244.1.7:8080 masqueraded")
}

func TestSourceRanges(t *testing.T) {
	w := newWorld(t)
	w.core.SetService(svc("web", "10.96.1.1", balancer("203.0.113.5"), func(s *corev1.Service) {
		s.Spec.LoadBalancerSourceRanges = []string{"172.20.0.0/24", " 172.20.0.0/25", "192.168.0.0/16"}
	}))
	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}))
	w.sync()
	w.expect(client, "203.0.113.5:80", "forwarded to 10.244.1.7:8080 masqueraded")
	w.expect(host, "203.0.113.5:80", "forwarded to 10.244.1.7:8080 masqueraded")
	w.expect("203.0.113.5", "203.0.113.5:80", "forwarded to 10.244.1.7:8080 masqueraded")
	w.expect("172.20.1.1", "203.0.113.5:80", "dropped")
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
}

func TestSessionAffinity(t *testing.T) {
	w := newWorld(t)
	timeout := int32(30)
	w.core.SetService(svc("web", "10.96.1.1", nodePort(30080), func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}}
	}))
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1"}, ep{addr: podB, node: "n2"}))
	w.sync()
	w.pick = 1
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	w.pick = 0
	w.fake.Advance(29 * time.Second)
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	w.fake.Advance(29 * time.Second)
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	w.expect("10.244.0.9", "192.168.0.1:30080", "forwarded to 10.244.1.7:8080 masqueraded")
	w.expect("10.244.0.8", "10.96.1.1:80", "forwarded to 10.244.0.5:8080")
	w.fake.Advance(31 * time.Second)
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.0.5:8080")
	// The endpoint that a client is bound to vanishes: another one takes over, and stays.
	w.core.SetSlice(slice("web", ep{addr: podB, node: "n2"}, ep{addr: "10.244.2.2", node: "n3"}))
	w.sync()
	w.pick = 1
	first := w.send("10.244.0.9", "10.96.1.1:80", nft.TCP)
	w.pick = 0
	if again := w.send("10.244.0.9", "10.96.1.1:80", nft.TCP); again != first || first == "forwarded to 10.244.0.5:8080" {
		t.Errorf("after the endpoint went: %q then %q", first, again)
	}
}

func TestTopologyHints(t *testing.T) {
	w := newWorld(t)
	w.core.SetZone("east")
	w.core.SetService(svc("web", "10.96.1.1"))
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1", zone: "west"}, ep{addr: podB, node: "n2", zone: "east"}))
	w.sync()
	for w.pick = range 2 {
		w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
	}
	w.core.SetZone("west")
	w.sync()
	for w.pick = range 2 {
		w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.0.5:8080")
	}
	w.core.SetZone("north")
	w.sync()
	w.pick = 1
	w.expect("10.244.0.9", "10.96.1.1:80", "forwarded to 10.244.1.7:8080")
}

func TestSkippedServices(t *testing.T) {
	w := newWorld(t)
	w.core.SetService(svc("headless", "None"))
	w.core.SetService(svc("alias", "", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }))
	w.core.SetService(svc("foreign", "10.96.1.9", func(s *corev1.Service) { s.Labels = map[string]string{labelProxyName: "other"} }))
	w.core.SetService(svc("nominal", "10.96.1.8", func(s *corev1.Service) { s.Labels = map[string]string{labelHeadless: ""} }))
	w.sync()
	if n := len(w.last.Tx.Steps); n != 0 {
		t.Errorf("%d steps for services without rules", n)
	}
}

func TestSharedFrontGoesToTheOldestService(t *testing.T) {
	w := newWorld(t)
	external := func(created int64) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"198.51.100.7"}
			s.CreationTimestamp = metav1.NewTime(time.Unix(created, 0))
		}
	}
	w.core.SetService(svc("young", "10.96.1.2", external(200)))
	w.core.SetSlice(slice("young", ep{addr: podB, node: "n2"}))
	w.sync()
	w.expect(client, "198.51.100.7:80", "forwarded to 10.244.1.7:8080 masqueraded")
	w.core.SetService(svc("old", "10.96.1.1", external(100)))
	w.core.SetSlice(slice("old", ep{addr: podA, node: "n1"}))
	w.sync()
	w.expect(client, "198.51.100.7:80", "forwarded to 10.244.0.5:8080 masqueraded")
	w.core.DeleteService(types.NamespacedName{Namespace: "default", Name: "old"})
	w.sync()
	w.expect(client, "198.51.100.7:80", "forwarded to 10.244.1.7:8080 masqueraded")
}

func TestIPv6AndDualStack(t *testing.T) {
	w := newWorld(t)
	timeout := int32(30)
	w.core.SetService(svc("web", "10.96.1.1", nodePort(30080), func(s *corev1.Service) {
		s.Spec.ClusterIPs = []string{"10.96.1.1", "fd00:96::1"}
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}}
	}))
	six := slice("web", ep{addr: "fd00:10::5", node: "n1"}, ep{addr: "fd00:10::6", node: "n2"})
	six.Name = "web-6"
	w.core.SetSlice(six)
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1"}))
	w.sync()
	w.pick = 1
	w.expect("fd00:10::9", "[fd00:96::1]:80", "forwarded to [fd00:10::6]:8080")
	w.pick = 0
	w.expect("fd00:10::9", "[fd00:96::1]:80", "forwarded to [fd00:10::6]:8080")
	w.expect("fd00:10::5", "[fd00:96::1]:80", "forwarded to [fd00:10::5]:8080 masqueraded")
	w.expect("2001:db8::1", "[fd00::1]:30080", "forwarded to [fd00:10::5]:8080 masqueraded")
	w.expect(client, "192.168.0.1:30080", "forwarded to 10.244.0.5:8080 masqueraded")
}

func TestUDPFrontsNameServingEndpoints(t *testing.T) {
	w := newWorld(t)
	w.core.SetService(svc("dns", "10.96.1.1", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }))
	sl := slice("dns", ep{addr: podA, node: "n1"}, ep{addr: podB, node: "n2", not: "ready"})
	udp := corev1.ProtocolUDP
	sl.Ports[0].Protocol = &udp
	w.core.SetSlice(sl)
	w.sync()
	want := []UDPFront{{
		Front: netip.MustParseAddrPort("10.96.1.1:80"), Backends: map[netip.AddrPort]struct{}{netip.MustParseAddrPort("10.244.0.5:8080"): {}},
	}}
	if diff := cmp.Diff(want, w.last.UDP, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("UDP fronts (-want +got):\n%s", diff)
	}
	if got := w.send("10.244.0.9", "10.96.1.1:80", nft.UDP); got != "forwarded to 10.244.0.5:8080" {
		t.Errorf("UDP packet: %s", got)
	}
}

func TestOneServiceChangesOnlyItsOwnElements(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		name := fmt.Sprintf("s%d", i)
		w.core.SetService(svc(name, fmt.Sprintf("10.96.2.%d", i)))
		w.core.SetSlice(slice(name, ep{addr: podA, node: "n1"}, ep{addr: podB, node: "n2"}, ep{addr: "10.244.3.3", node: "n3"}))
	}
	w.sync()
	w.core.SetSlice(slice("s7", ep{addr: podA, node: "n1"}, ep{addr: "10.244.3.4", node: "n3"}, ep{addr: "10.244.3.3", node: "n3"}))
	w.sync()
	var elements int
	for _, s := range w.last.Tx.Steps {
		switch s := s.(type) {
		case nft.AddElements:
			elements += len(s.Elements)
		case nft.DeleteElements:
			elements += len(s.Elements)
		default:
			t.Errorf("step %T", s)
		}
	}
	if elements != 2 {
		t.Errorf("%d elements for one replaced endpoint, want 2", elements)
	}
}

func TestGoldenTable(t *testing.T) {
	w := newWorld(t)
	timeout := int32(10800)
	w.core.SetService(svc("web", "10.96.1.1", nodePort(30080), balancer("203.0.113.5"), externalLocal, func(s *corev1.Service) {
		s.Spec.LoadBalancerSourceRanges = []string{"172.20.0.0/24"}
	}))
	w.core.SetSlice(slice("web", ep{addr: podA, node: "n1"}, ep{addr: podB, node: "n2"}))
	w.core.SetService(svc("sticky", "10.96.1.2", func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}}
	}))
	w.core.SetSlice(slice("sticky", ep{addr: podB, node: "n2"}))
	w.core.SetService(svc("empty", "10.96.1.3"))
	w.sync()
	got := w.fake.Tables[TableName].String()
	path := filepath.Join("testdata", "table.golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("table (-golden +now):\n%s", diff)
	}
}
