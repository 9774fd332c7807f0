// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/nft"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

func podAt(ns, name, node, app string, addrs ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}},
	}
	for _, a := range addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	return p
}

// The cluster of the tests. Node n1 is ours.
const (
	web, web6   = "10.244.0.5", "fd00:10::5"
	db          = "10.244.0.6"
	otherWeb    = "10.244.1.5" // namespace a, node n2
	foreign     = "10.244.1.9" // namespace b, app web
	foreign6    = "fd00:10:1::9"
	outsider    = "192.0.2.7"
	outsiderBad = "192.0.2.200"
)

func newCore(t *testing.T, policies ...string) *Core {
	t.Helper()
	c := New("n1")
	for _, n := range []string{"a", "b"} {
		c.SetNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n, Labels: map[string]string{"team": n}}})
	}
	c.SetPod(podAt("a", "web", "n1", "web", web, web6))
	c.SetPod(podAt("a", "db", "n1", "db", db))
	c.SetPod(podAt("a", "web2", "n2", "web", otherWeb))
	c.SetPod(podAt("b", "web", "n2", "web", foreign, foreign6))
	for i, text := range policies {
		p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: string(rune('p' + i))}}
		if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
			t.Fatalf("policy: %v\n%s", err, text)
		}
		c.SetPolicy(p)
	}
	return c
}

type packet struct {
	src, dst string
	proto    uint8
	port     uint16
	want     bool
}

func check(t *testing.T, c *Core, packets ...packet) {
	t.Helper()
	fake := nft.NewFake()
	if table := c.Table(); table != nil {
		if err := fake.Apply(nft.Replace(table)); err != nil {
			t.Fatalf("apply: %v\n%s", err, table)
		}
	}
	tracer := nft.Tracer{Fake: fake, Local: func(netip.Addr) bool { return false }}
	for _, p := range packets {
		if p.proto == 0 {
			p.proto = nft.TCP
		}
		if p.port == 0 {
			p.port = 8080
		}
		packet := nft.Packet{
			Proto: p.proto, Src: netip.AddrPortFrom(netip.MustParseAddr(p.src), 40000), Dst: netip.AddrPortFrom(netip.MustParseAddr(p.dst), p.port),
		}
		out, err := tracer.Trace(packet)
		if err != nil {
			t.Fatalf("Trace: %v", err)
		}
		if got := out.Fate == nft.Forwarded; got != p.want {
			t.Errorf("%s -> %s proto %d port %d: passes %t, want %t (%v)", p.src, p.dst, p.proto, p.port, got, p.want, out.Path)
		}
		packet.Established = true
		if out, err := tracer.Trace(packet); err != nil || out.Fate != nft.Forwarded {
			t.Errorf("%s -> %s: established packet: %v, %v", p.src, p.dst, out, err)
		}
	}
}

func TestNothingIsEnforcedWithoutPolicies(t *testing.T) {
	if table := newCore(t).Table(); table != nil {
		t.Errorf("table without policies:\n%s", table)
	}
	if table := newCore(t, `{podSelector: {matchLabels: {app: none}}, policyTypes: [Ingress]}`).Table(); table != nil {
		t.Errorf("table for a policy that selects nothing:\n%s", table)
	}
}

func TestDenyAll(t *testing.T) {
	c := newCore(t, `{podSelector: {}, policyTypes: [Ingress]}`)
	check(t, c,
		packet{src: foreign, dst: web}, packet{src: otherWeb, dst: db}, packet{src: web, dst: db}, packet{src: outsider, dst: web, proto: nft.UDP},
		packet{src: web, dst: web, want: true}, packet{src: web, dst: foreign, want: true}, packet{src: foreign, dst: otherWeb, want: true},
	)
	c = newCore(t, `{podSelector: {}, policyTypes: [Egress]}`)
	check(t, c, packet{src: web, dst: foreign}, packet{src: web, dst: db}, packet{src: foreign, dst: web, want: true}, packet{src: web, dst: web, want: true})
}

func TestIngressPeers(t *testing.T) {
	check(t, newCore(t, `{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`),
		packet{src: web, dst: db, want: true}, packet{src: otherWeb, dst: db, want: true}, packet{src: foreign, dst: db},
		packet{src: outsider, dst: db}, packet{src: foreign, dst: web, want: true},
	)
	check(t, newCore(t, `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}`),
		packet{src: foreign, dst: web, want: true}, packet{src: foreign6, dst: web6, want: true}, packet{src: db, dst: web},
	)
	check(t, newCore(t, `{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}]}]}`),
		packet{src: db, dst: web, want: true}, packet{src: foreign, dst: web},
	)
	check(t, newCore(t, `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}, {ipBlock: {cidr: 192.0.2.0/26}}]}]}`),
		packet{src: outsider, dst: web, want: true}, packet{src: outsiderBad, dst: web}, packet{src: foreign, dst: web},
	)
}

func TestPorts(t *testing.T) {
	check(t, newCore(t, `{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 8000, endPort: 8100}, {protocol: UDP, port: 53}, {protocol: SCTP}]}]}`),
		packet{src: foreign, dst: web, port: 80, want: true}, packet{src: foreign, dst: web, port: 8100, want: true}, packet{src: foreign, dst: web, port: 8101},
		packet{src: foreign, dst: web, port: 53}, packet{src: foreign, dst: web, proto: nft.UDP, port: 53, want: true},
		packet{src: foreign, dst: web, proto: nft.SCTP, port: 9, want: true}, packet{src: foreign6, dst: web6, port: 80, want: true},
	)
	check(t, newCore(t, `{podSelector: {}, ingress: [{ports: [{port: http}]}]}`),
		packet{src: foreign, dst: web, port: 8080, want: true}, packet{src: foreign, dst: web, port: 80}, packet{src: foreign6, dst: web6, port: 8080, want: true},
	)
	check(t, newCore(t, `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: b}}}], ports: [{port: http}]}]}`),
		packet{src: web, dst: foreign, port: 8080, want: true}, packet{src: web, dst: foreign, port: 80}, packet{src: web, dst: db, port: 8080},
	)
}

func TestPoliciesAdd(t *testing.T) {
	c := newCore(t,
		`{podSelector: {}, policyTypes: [Ingress, Egress]}`,
		`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}`,
		`{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}`,
	)
	check(t, c, packet{src: web, dst: db, port: 5432, want: true}, packet{src: web, dst: db, port: 80}, packet{src: db, dst: web}, packet{src: web, dst: foreign})
	c.DeletePolicy(types.NamespacedName{Namespace: "a", Name: "r"})
	check(t, c, packet{src: web, dst: db, port: 5432})
}

func TestOnlyWhatMattersCounts(t *testing.T) {
	c := newCore(t)
	p := podAt("a", "web", "n1", "web", web, web6)
	if c.SetPod(p) {
		t.Error("the same pod counts as a change")
	}
	p.Status.Phase = corev1.PodSucceeded
	if !c.SetPod(p) || c.SetPod(p) {
		t.Error("a pod that ended is a change once")
	}
	host := podAt("a", "host", "n1", "web", "172.20.0.1")
	host.Spec.HostNetwork = true
	if c.SetPod(host) {
		t.Error("a pod of the host's network counts")
	}
}

func TestPodsChangeElementsOnly(t *testing.T) {
	c := newCore(t, `{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}`)
	before := c.Table()
	c.SetPod(podAt("a", "web3", "n2", "web", "10.244.1.77"))
	for _, s := range nft.Diff(before, c.Table()).Steps {
		if add, ok := s.(nft.AddElements); !ok || len(add.Elements) != 1 {
			t.Errorf("step %T", s)
		}
	}
}

func TestGoldenTable(t *testing.T) {
	got := newCore(t,
		`{podSelector: {}, policyTypes: [Ingress, Egress]}`,
		`{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 5432}, {port: http}]}]}`,
	).Table().String()
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
