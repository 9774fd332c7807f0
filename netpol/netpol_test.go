// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package netpol

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/netpol/rules"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/nft/kernel"
	"kogge.dev/kogge/nft/nfttest"
	"kogge.dev/kogge/reconcile/changes"
)

func pod(name, addr string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status:     corev1.PodStatus{PodIP: addr, PodIPs: []corev1.PodIP{{IP: addr}}},
	}
}

func policy(name string, spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: spec}
}

// fakeKernel is an nft.Fake as the enforcer sees it.
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

func (k fakeKernel) Exists(_ nft.Family, table string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Tables[table] != nil, nil
}

func newEnforcer(t *testing.T, k ruleWriter) *Enforcer {
	t.Helper()
	e, err := New(Config{Node: "n1", Kernel: k, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTableComesAndGoesWithPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		if err := fake.Apply(&nft.Transaction{Family: nft.INet, Table: rules.TableName, Steps: []nft.Step{nft.AddTable{}}}); err != nil {
			t.Fatal(err)
		}
		e := newEnforcer(t, fake)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		e.changes.Upsert(pod("a", "10.244.0.5"))
		synctest.Wait()
		if fake.text() == "" {
			t.Error("an earlier process's table was touched before all objects were known")
		}
		e.changes.Complete(true)
		time.Sleep(time.Second)
		synctest.Wait()
		if fake.text() != "" {
			t.Error("an earlier process's table is still there without policies")
		}
		deny := policy("deny", networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}})
		e.changes.Upsert(deny)
		time.Sleep(time.Second)
		synctest.Wait()
		if fake.text() == "" {
			t.Error("no table for a policy")
		}
		applied := fake.Applied
		e.changes.Upsert(pod("a", "10.244.0.5"))
		time.Sleep(time.Second)
		synctest.Wait()
		if fake.Applied != applied {
			t.Error("an unchanged pod led to a transaction")
		}
		fake.Fail = errors.New("no memory")
		e.changes.Upsert(pod("b", "10.244.0.6"))
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(fake.Tables[rules.TableName].Sets["in4"].Elements); n != 2 {
			t.Errorf("%d pods isolated after a failure, want 2", n)
		}
		fake.remove()
		time.Sleep(changes.LookEvery + time.Second)
		synctest.Wait()
		if fake.text() == "" {
			t.Error("the table did not come back after somebody removed it")
		}
		e.changes.Delete(deny)
		time.Sleep(time.Second)
		synctest.Wait()
		if fake.text() != "" {
			t.Error("table outlives the last policy")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRealIPv6(t *testing.T) {
	lab := nfttest.New(t)
	w := kernel.New(kernel.Config{NetNS: int(lab.Node.NS)})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	e := newEnforcer(t, w)
	spaces := map[string]*nfttest.Space{}
	for name, last := range map[string]string{"a": "5", "b": "6", "c": "7"} {
		spaces[name] = lab.Pod("10.244.0." + last)
		p := pod(name, "10.244.0."+last)
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00:10::" + last})
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}}
		e.changes.Upsert(p)
	}
	spaces["b"].Serve(8080, "b")
	spaces["b"].Serve(9090, "b")
	e.changes.Upsert(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	named := intstr.FromString("web")
	e.changes.Upsert(policy("only-a", networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "b"}},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From: []networkingv1.NetworkPolicyPeer{
				{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}, {IPBlock: &networkingv1.IPBlock{CIDR: "fd00:20::/64"}},
			},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &named}},
		}},
	}))
	e.changes.Complete(true)
	if _, err := e.changes.Apply(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, got, want string
	}{
		{"allowed pod", spaces["a"].Ask("tcp", "[fd00:10::6]:8080"), "b fd00:10::5"},
		{"allowed pod, IPv4", spaces["a"].Ask("tcp", "10.244.0.6:8080"), "b 10.244.0.5"},
		{"other port", spaces["a"].AskBriefly("tcp", "[fd00:10::6]:9090"), "timeout"},
		{"other pod", spaces["c"].AskBriefly("tcp", "[fd00:10::6]:8080"), "timeout"},
		{"the node itself", lab.Node.Ask("tcp", "[fd00:10::6]:9090"), "b fd00:10::1"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
}

func TestRealTraffic(t *testing.T) {
	lab := nfttest.New(t)
	a, b, c := lab.Pod("10.244.0.5"), lab.Pod("10.244.0.6"), lab.Pod("10.244.0.7")
	b.Serve(8080, "b")
	b.Serve(9090, "b")
	w := kernel.New(kernel.Config{NetNS: int(lab.Node.NS)})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	e := newEnforcer(t, w)
	for name, s := range map[string]*nfttest.Space{"a": a, "b": b, "c": c} {
		e.changes.Upsert(pod(name, s.Addr.String()))
	}
	e.changes.Upsert(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	e.changes.Complete(true)
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	apply := func() {
		t.Helper()
		if _, err := e.changes.Apply(); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	expect("without policies", a.Ask("tcp", "10.244.0.6:8080"), "b 10.244.0.5")
	port := intstr.FromInt32(8080)
	only := policy("only-a", networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "b"}},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{
			From: []networkingv1.NetworkPolicyPeer{
				{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}},
				{IPBlock: &networkingv1.IPBlock{CIDR: "172.20.0.0/24", Except: []string{"172.20.0.128/25"}}},
			},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
		}},
	})
	e.changes.Upsert(only)
	apply()
	expect("allowed pod on the same bridge", a.Ask("tcp", "10.244.0.6:8080"), "b 10.244.0.5")
	expect("other port", a.AskBriefly("tcp", "10.244.0.6:9090"), "timeout")
	expect("other pod on the same bridge", c.AskBriefly("tcp", "10.244.0.6:8080"), "timeout")
	expect("allowed block", lab.Client.Ask("tcp", "10.244.0.6:8080"), "b 172.20.0.9")
	expect("the node itself", lab.Node.Ask("tcp", "10.244.0.6:9090"), "b 10.244.0.1")
	expect("UDP", a.AskBriefly("udp", "10.244.0.6:8080"), "timeout")
	e.changes.Upsert(policy("closed", networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
	}))
	apply()
	expect("egress closed", a.AskBriefly("tcp", "10.244.0.6:8080"), "timeout")
	e.changes.Delete(policy("closed", networkingv1.NetworkPolicySpec{}))
	e.changes.Delete(only)
	apply()
	expect("policies gone", c.Ask("tcp", "10.244.0.6:8080"), "b 10.244.0.7")
}
