// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/kinds"
)

func svc(ns, name string, spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: spec}
}

func slice(ns, service, suffix string, kind discoveryv1.AddressType, eps ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	name, number, proto := "http", int32(8080), corev1.ProtocolTCP
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: service + suffix, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: kind, Endpoints: eps, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &proto}},
	}
}

func endpointAt(addr, hostname string, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	if hostname != "" {
		e.Hostname = &hostname
	}
	return e
}

// objects are the cluster of the question tables.
func objects() []kinds.Object {
	ports := []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}, {Name: "stats", Protocol: corev1.ProtocolUDP, Port: 8125}}
	return []kinds.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "empty"}},
		svc("default", "web", corev1.ServiceSpec{ClusterIP: "10.96.1.1", ClusterIPs: []string{"10.96.1.1", "fd00:96::1"}, Ports: ports}),
		slice("default", "web", "-1", discoveryv1.AddressTypeIPv4, endpointAt("10.244.0.9", "", true)),
		svc("default", "db", corev1.ServiceSpec{ClusterIP: "None", Ports: ports[:1]}),
		slice("default", "db", "-1", discoveryv1.AddressTypeIPv4, endpointAt("10.244.0.5", "db-0", true), endpointAt("10.244.0.6", "", true), endpointAt("10.244.0.7", "db-2", false)),
		slice("default", "db", "-2", discoveryv1.AddressTypeIPv6, endpointAt("fd00:10::5", "db-0", true)),
		svc("default", "nobody", corev1.ServiceSpec{ClusterIP: "None", Ports: ports[:1]}),
		svc("default", "alias", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "web.default.svc.cluster.local"}),
		svc("default", "abroad", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "Example.org."}),
		svc("default", "ring", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "ring.default.svc.cluster.local"}),
	}
}

func testServer(t testing.TB, config Config, objs ...kinds.Object) *Server {
	t.Helper()
	config.Addresses = append(config.Addresses, "10.96.0.10:53")
	config.Reverse = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.244.0.0/16")}
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	if config.ResolvConf == "" {
		config.ResolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	b := newBuilder()
	feed(b, (*builder).set, objs...)
	s.snapshot.Store(b.build())
	return s
}

func feed(b *builder, f func(*builder, kinds.Object), objs ...kinds.Object) {
	for _, o := range objs {
		f(b, o)
	}
}

// upstreamServer answers like an outside name server, until the test ends.
func upstreamServer(t testing.TB, handler dns.HandlerFunc) string {
	t.Helper()
	address := "127.0.0.1:" + strconv.Itoa(need.Port(t))
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := errors.Join(s.Shutdown(), <-ended); err != nil {
				t.Error(err)
			}
		})
	}
	return address
}

// outside knows example.org and big.example.org, whose answer fits no datagram.
func outside(w dns.ResponseWriter, req *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(req)
	q := req.Question[0]
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}
	switch {
	case q.Name == "example.org." && q.Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 7)}}
	case q.Name == "big.example.org." && udp:
		m.Truncated = true
	case q.Name == "big.example.org.":
		for i := range 100 {
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IPv4(192, 0, 2, byte(i))})
		}
	default:
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: ".", Mbox: ".", Minttl: 60}}
	}
	_ = w.WriteMsg(m)
}

func render(m *dns.Msg) string {
	var b strings.Builder
	fmt.Fprint(&b, dns.RcodeToString[m.Rcode])
	if m.Authoritative {
		b.WriteString(" authoritative")
	}
	b.WriteByte('\n')
	for _, part := range []struct {
		mark string
		list []dns.RR
	}{{"", m.Answer}, {"authority: ", m.Ns}, {"also: ", m.Extra}} {
		var lines []string
		for _, rr := range part.list {
			if rr.Header().Rrtype != dns.TypeOPT {
				lines = append(lines, part.mark+strings.Join(strings.Fields(strings.ReplaceAll(rr.String(), "\t", " ")), " "))
			}
		}
		slices.Sort(lines)
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

func TestAnswers(t *testing.T) {
	s := testServer(t, Config{Upstreams: []string{upstreamServer(t, outside)}}, objects()...)
	datadriven.RunTest(t, "testdata/answers", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			name, qtype, _ := strings.Cut(strings.TrimSpace(line), " ")
			req := new(dns.Msg)
			req.SetQuestion(name, dns.StringToType[qtype])
			resp, _ := s.respond(t.Context(), req)
			if _, err := resp.Pack(); err != nil {
				t.Errorf("%s: pack: %v", line, err)
			}
			out.WriteString(render(resp))
		}
		return out.String()
	})
}

func TestChangesReachTheNextSnapshot(t *testing.T) {
	b := newBuilder()
	feed(b, (*builder).set, objects()...)
	first := b.build()
	if b.build() != first {
		t.Error("a snapshot was built without a change")
	}
	feed(b, (*builder).drop, objects()[4], objects()[5], objects()[6])
	second := b.build()
	if first.service("default", "db") == nil || len(first.names(netip.MustParseAddr("10.244.0.5"))) != 1 {
		t.Error("the earlier snapshot changed")
	}
	if second.service("default", "db") != nil || len(second.names(netip.MustParseAddr("10.244.0.5"))) != 0 {
		t.Error("deleted service is still there")
	}
	if second.service("default", "web") != first.service("default", "web") {
		t.Error("a service that did not change was made again")
	}
	feed(b, (*builder).drop, objects()...)
	if last := b.build(); len(last.namespaces) != 0 {
		t.Errorf("namespaces remain: %v", last.namespaces)
	}
}

func TestUnsyncedServerMakesClientsAskAgain(t *testing.T) {
	s := testServer(t, Config{})
	s.snapshot.Store(nil)
	for _, name := range []string{"web.default.svc.cluster.local.", "1.1.96.10.in-addr.arpa."} {
		req := new(dns.Msg)
		req.SetQuestion(name, dns.TypeA)
		if resp, _ := s.respond(t.Context(), req); resp.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: %s before the sync", name, dns.RcodeToString[resp.Rcode])
		}
	}
}

func TestMalformedQuestions(t *testing.T) {
	s := testServer(t, Config{}, objects()...)
	for _, c := range []struct {
		name string
		make func(*dns.Msg)
		want int
	}{
		{"no question", func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		{"an update", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		{"another class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		{"a zone transfer", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeRefused},
		{"a later EDNS", func(m *dns.Msg) { m.SetEdns0(4096, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		{"no upstream", func(m *dns.Msg) { m.Question[0].Name = "example.org." }, dns.RcodeRefused},
	} {
		req := new(dns.Msg)
		req.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
		c.make(req)
		if resp, _ := s.respond(t.Context(), req); resp.Rcode != c.want {
			t.Errorf("%s: %s, want %s", c.name, dns.RcodeToString[resp.Rcode], dns.RcodeToString[c.want])
		}
	}
}

// run serves on a loopback port and returns its address.
func run(t *testing.T, config Config, objs ...kinds.Object) (string, *Server) {
	t.Helper()
	addr := "127.0.0.1:" + strconv.Itoa(need.Port(t))
	config.Addresses = []string{addr}
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		s.changes.Upsert(o)
	}
	s.changes.Complete(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	deadline := time.Now().Add(5 * time.Second)
	for !s.Ready() {
		if time.Now().After(deadline) {
			t.Fatal("server is not ready")
		}
		time.Sleep(time.Millisecond)
	}
	return addr, s
}

func ask(t *testing.T, network, addr, name string, size uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	if size > 0 {
		m.SetEdns0(size, false)
	}
	client := dns.Client{Net: network, UDPSize: size, Timeout: 3 * time.Second}
	resp, _, err := client.ExchangeContext(t.Context(), m, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	return resp
}

func TestServing(t *testing.T) {
	var eps []discoveryv1.Endpoint
	for i := range 200 {
		eps = append(eps, endpointAt(fmt.Sprintf("10.244.1.%d", i+1), "", true))
	}
	many := []kinds.Object{svc("default", "many", corev1.ServiceSpec{ClusterIP: "None"}), slice("default", "many", "-1", discoveryv1.AddressTypeIPv4, eps...)}
	addr, _ := run(t, Config{Upstreams: []string{upstreamServer(t, outside)}}, append(objects(), many...)...)
	const name = "many.default.svc.cluster.local."
	for _, size := range []uint16{0, 1232, 4096} {
		resp := ask(t, "udp", addr, name, size)
		resp.Compress = true // for Len
		if !resp.Truncated || resp.Len() > maxUDP {
			t.Errorf("200 addresses over UDP with a buffer of %d: truncated %t, %d bytes", size, resp.Truncated, resp.Len())
		}
		if (resp.IsEdns0() != nil) != (size > 0) {
			t.Errorf("buffer %d: EDNS in the answer: %t", size, resp.IsEdns0() != nil)
		}
	}
	if resp := ask(t, "tcp", addr, name, 0); resp.Truncated || len(resp.Answer) != 200 {
		t.Errorf("over TCP: %d answers, truncated %t", len(resp.Answer), resp.Truncated)
	}
	if resp := ask(t, "tcp", addr, "big.example.org.", 0); len(resp.Answer) != 100 {
		t.Errorf("forwarded over TCP: %d answers", len(resp.Answer))
	}
	if resp := ask(t, "udp", addr, "wEb.DeFault.svc.CLUSTER.local.", 0); len(resp.Answer) != 1 || resp.Answer[0].Header().Name != "wEb.DeFault.svc.CLUSTER.local." {
		t.Errorf("mixed case: %v", resp.Answer)
	}
}

func TestResolverFileIsReadAgainAndLoopsAreCut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("nameserver 10.96.0.10\nsearch a.b\n")
	s := testServer(t, Config{ResolvConf: file}, objects()...)
	if got := s.forward.list(); len(got) != 0 {
		t.Errorf("the server forwards to itself: %v", got)
	}
	write("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
	s.forward.looked = time.Now().Add(-time.Hour)
	got := s.forward.list()
	if len(got) != 2 || got[0].addr != "192.0.2.1:53" {
		t.Fatalf("upstreams = %v", got)
	}
	got[0].failed.Store(time.Now().UnixNano())
	if again := s.forward.list(); again[0].addr != "192.0.2.2:53" {
		t.Errorf("a dead upstream is asked first")
	}
	req := new(dns.Msg)
	req.SetQuestion(s.forward.nonce+".invalid.", dns.TypeHINFO)
	s.respond(t.Context(), req)
	req.SetQuestion("example.org.", dns.TypeA)
	if resp, _ := s.respond(t.Context(), req); resp.Rcode != dns.RcodeServerFailure {
		t.Errorf("after a loop: %s", dns.RcodeToString[resp.Rcode])
	}
}

func TestLoopThroughAnotherServerIsFound(t *testing.T) {
	var self atomic.Pointer[string]
	relay := upstreamServer(t, func(w dns.ResponseWriter, req *dns.Msg) {
		resp := new(dns.Msg)
		resp.SetRcode(req, dns.RcodeServerFailure)
		if to := self.Load(); to != nil {
			if found, err := dns.Exchange(req, *to); err == nil {
				resp = found
			}
		}
		_ = w.WriteMsg(resp)
	})
	addr, s := run(t, Config{Upstreams: []string{relay}}, objects()...)
	self.Store(&addr)
	s.forward.changed <- struct{}{}
	for deadline := time.Now().Add(5 * time.Second); !s.forward.looping.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the loop was not noticed")
		}
	}
}

func TestCacheKeepsAnswersAsLongAsTheyHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache()
		answer := func(ttl uint32) *dns.Msg {
			m := new(dns.Msg)
			m.SetQuestion("example.org.", dns.TypeA)
			m.Response = true
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IPv4(192, 0, 2, 1)}}
			return m
		}
		q := questionOf(answer(1))
		c.put(q, answer(10), time.Now())
		time.Sleep(4 * time.Second)
		if m := c.get(q, time.Now()); m == nil || m.Answer[0].Header().Ttl != 6 {
			t.Errorf("after 4 s: %v", m)
		}
		time.Sleep(6 * time.Second)
		if m := c.get(q, time.Now()); m != nil {
			t.Errorf("after 10 s: %v", m)
		}
		c.put(q, answer(3600), time.Now())
		time.Sleep(cacheMax)
		if m := c.get(q, time.Now()); m != nil {
			t.Errorf("after %s: %v", cacheMax, m)
		}
		failed := answer(10)
		failed.Rcode = dns.RcodeServerFailure
		c.put(q, failed, time.Now())
		if m := c.get(q, time.Now()); m != nil {
			t.Errorf("a failure was kept: %v", m)
		}
		for i := range cacheEntries + 100 {
			c.put(question{name: fmt.Sprint(i)}, answer(10), time.Now())
		}
		if n := len(c.entries); n > cacheEntries {
			t.Errorf("%d entries", n)
		}
	})
}

func TestHealth(t *testing.T) {
	s := testServer(t, Config{})
	get := func(path string) int {
		w := httptest.NewRecorder()
		s.healthHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code
	}
	if got := get("/ready"); got != http.StatusOK {
		t.Errorf("/ready = %d", got)
	}
	s.snapshot.Store(nil)
	if got := get("/ready"); got != http.StatusServiceUnavailable {
		t.Errorf("/ready = %d before the sync", got)
	}
	if got := get("/health"); got != http.StatusOK {
		t.Errorf("/health = %d", got)
	}
}

// FuzzMessages sends arbitrary bytes through decoding, answering and encoding.
func FuzzMessages(f *testing.F) {
	s := testServer(f, Config{}, objects()...)
	for _, name := range []string{
		"web.default.svc.cluster.local.", "_http._tcp.db.default.svc.cluster.local.", "10-1-2-3.default.pod.cluster.local.", "fd00--1.default.pod.cluster.local.",
		"1.1.96.10.in-addr.arpa.", "ring.default.svc.cluster.local.", "cluster.local.", "example.org.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.",
	} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeANY)
		m.SetEdns0(600, true)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(dns.Msg)
		if req.Unpack(b) != nil {
			return
		}
		resp, _ := s.respond(t.Context(), req)
		fit(req, resp, &net.UDPAddr{})
		out, err := resp.Pack()
		if err != nil {
			t.Fatalf("answer to %v can't be packed: %v", req, err)
		}
		if len(out) > maxUDP {
			t.Errorf("answer of %d bytes", len(out))
		}
		if resp.Id != req.Id || !resp.Response {
			t.Errorf("answer does not belong to its question")
		}
	})
}

func BenchmarkRespond(b *testing.B) {
	s := testServer(b, Config{}, objects()...)
	req := new(dns.Msg)
	req.SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	b.ReportAllocs()
	for b.Loop() {
		resp, _ := s.respond(b.Context(), req)
		fit(req, resp, &net.UDPAddr{})
		if _, err := resp.Pack(); err != nil {
			b.Fatal(err)
		}
	}
}
