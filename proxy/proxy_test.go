// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/proxy/rules"
	"kogge.dev/kogge/reconcile/changes"
)

// fakeKernel is an nft.Fake as the driver sees it.
type fakeKernel struct {
	mu *sync.Mutex
	*nft.Fake
}

func newFake() fakeKernel { return fakeKernel{&sync.Mutex{}, nft.NewFake()} }

func (k fakeKernel) Apply(tx *nft.Transaction) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Fake.Apply(tx)
}

// text renders our table, "" if there is none.
func (k fakeKernel) text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.Tables[rules.TableName]; t != nil {
		return t.String()
	}
	return ""
}

// remove is what "nft flush ruleset" does.
func (k fakeKernel) remove() {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.Tables, rules.TableName)
}

func (k fakeKernel) Elements(_ nft.Family, table string, shape *nft.Set) ([]nft.Element, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.Tables[table]
	if t == nil || t.Sets[shape.Name] == nil {
		return nil, nft.ErrNotFound
	}
	var out []nft.Element
	for _, e := range t.Sets[shape.Name].Elements {
		out = append(out, e)
	}
	return out, nil
}

func (k fakeKernel) Exists(_ nft.Family, table string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Tables[table] != nil, nil
}

func service(name, ip string, proto corev1.Protocol, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80, Protocol: proto}}},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func endpoints(name string, proto corev1.Protocol, addrs ...string) *discoveryv1.EndpointSlice {
	port, node := int32(8080), "n1"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port, Protocol: &proto}},
	}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, NodeName: &node})
	}
	return s
}

func newProxy(t testing.TB, config Config) *Proxy {
	t.Helper()
	config.Rules.Node = "n1"
	config.Rules.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10::/48")}
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBurstsBecomeOneTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		p := newProxy(t, Config{Kernel: fake})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		defer cancel()
		go func() { done <- p.Run(ctx) }()
		p.Upsert(service("a", "10.96.0.1", corev1.ProtocolTCP))
		synctest.Wait()
		if fake.Applied != 0 {
			t.Fatalf("%d transactions before all objects were known", fake.Applied)
		}
		p.Synced()
		synctest.Wait()
		if fake.Applied != 1 {
			t.Fatalf("%d transactions at first, want 1", fake.Applied)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		began := time.Now()
		p.Upsert(service("b", "10.96.0.2", corev1.ProtocolTCP))
		synctest.Wait()
		if fake.Applied != 2 || time.Since(began) != 0 {
			t.Errorf("a change after a quiet time waits: %d transactions, %s", fake.Applied, time.Since(began))
		}
		for i := range 100 {
			p.Upsert(endpoints("b", corev1.ProtocolTCP, netip.AddrFrom4([4]byte{10, 244, 0, byte(i + 2)}).String()))
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if fake.Applied != 3 {
			t.Errorf("%d transactions after a burst, want 3", fake.Applied)
		}
		if s := fake.text(); !strings.Contains(s, "10.244.0.101 . 8080") {
			t.Errorf("the burst's last state is not in the table:\n%s", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFailedSyncIsRepairedByReplacingTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		p := newProxy(t, Config{Kernel: fake})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = p.Run(ctx) }()
		p.Synced()
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		if code := get(t, p.health.healthz); code != http.StatusOK {
			t.Errorf("healthz = %d after a good sync", code)
		}
		fake.Fail = errors.New("no memory")
		p.Upsert(service("a", "10.96.0.1", corev1.ProtocolTCP))
		synctest.Wait()
		if strings.Contains(fake.text(), "10.96.0.1") {
			t.Fatal("the failed transaction took effect")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if !strings.Contains(fake.text(), "10.96.0.1") {
			t.Error("the failed transaction was not repaired")
		}
		fake.remove()
		time.Sleep(changes.LookEvery)
		synctest.Wait()
		if fake.text() == "" {
			t.Fatal("the flushed table did not come back by itself")
		}
		fake.remove()
		p.Upsert(service("b", "10.96.0.2", corev1.ProtocolTCP))
		time.Sleep(time.Second)
		synctest.Wait()
		if s := fake.text(); !strings.Contains(s, "10.96.0.1") || !strings.Contains(s, "10.96.0.2") {
			t.Errorf("the flushed table did not come back:\n%s", s)
		}
		cancel()
		synctest.Wait()
	})
}

// write writes what is queued.
func write(t *testing.T, p *Proxy) {
	t.Helper()
	if _, err := p.changes.Apply(); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, f http.HandlerFunc) int {
	t.Helper()
	w := httptest.NewRecorder()
	f(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	return w.Code
}

func TestHealthOfALeavingNode(t *testing.T) {
	p := newProxy(t, Config{Kernel: newFake()})
	if code := get(t, p.health.livez); code != http.StatusServiceUnavailable {
		t.Errorf("livez = %d before the first sync", code)
	}
	p.Upsert(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taintDeleted}}}})
	p.Synced()
	write(t, p)
	if code := get(t, p.health.livez); code != http.StatusOK {
		t.Errorf("livez = %d", code)
	}
	if code := get(t, p.health.healthz); code != http.StatusServiceUnavailable {
		t.Errorf("healthz = %d of a node that is being removed", code)
	}
}

func TestHealthCheckNodePort(t *testing.T) {
	p := newProxy(t, Config{Kernel: newFake()})
	defer p.health.closeAll()
	port := need.Port(t)
	svc := service("lb", "10.96.0.1", corev1.ProtocolTCP, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.HealthCheckNodePort = int32(port)
	})
	ask := func() (int, string) {
		resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/")
		if err != nil {
			return 0, ""
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	step := func(f func()) {
		f()
		p.Synced()
		write(t, p)
	}
	step(func() { p.Upsert(svc) })
	if code, _ := ask(); code != http.StatusServiceUnavailable {
		t.Errorf("health = %d without local endpoints", code)
	}
	step(func() { p.Upsert(endpoints("lb", corev1.ProtocolTCP, "10.244.0.5", "10.244.0.6")) })
	if code, body := ask(); code != http.StatusOK || !strings.Contains(body, `"localEndpoints":2`) {
		t.Errorf("health = %d %s with two local endpoints", code, body)
	}
	step(func() { p.Delete(svc) })
	if code, _ := ask(); code != 0 {
		t.Errorf("health = %d after the service went", code)
	}
}
