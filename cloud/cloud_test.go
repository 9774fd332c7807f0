// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cloud"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// fake is a cloud with machines and a table of routes.
type fake struct {
	mu       sync.Mutex
	machines map[string]cloud.Instance
	routes   map[string]cloud.Route
}

func (f *fake) Instance(_ context.Context, node *corev1.Node) (cloud.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	machine, ok := f.machines[node.Name]
	if !ok {
		return machine, fmt.Errorf("machine %s: %w", node.Name, cloud.ErrNoInstance)
	}
	return machine, nil
}

func (f *fake) List(context.Context) ([]cloud.Route, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []cloud.Route
	for _, r := range f.routes {
		out = append(out, r)
	}
	return out, nil
}

func (f *fake) Create(_ context.Context, r cloud.Route) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes[r.Destination] = r
	return nil
}

func (f *fake) Delete(_ context.Context, r cloud.Route) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.routes, r.Destination)
	return nil
}

func run(t *testing.T, f *fake) *client.Client {
	t.Helper()
	cluster := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true, Cloud: true}})
	c := cluster.As("system:cloud-controller-manager")
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- cloud.Run(ctx, cloud.Config{
			Client: c, Informers: client.NewInformers(c, log), Provider: cloud.Provider{Name: "fake", Instances: f, Routes: f}, Log: log,
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("cloud loops ended: %v", err)
		}
	})
	return cluster.Admin()
}

func create(t *testing.T, c *client.Client, node *corev1.Node) {
	t.Helper()
	if _, err := client.Of[*corev1.Node](c).Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

func named(all []*corev1.Node, name string) *corev1.Node {
	for _, n := range all {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func TestNodesFollowTheirMachines(t *testing.T) {
	f := &fake{routes: map[string]cloud.Route{}, machines: map[string]cloud.Instance{
		"new": {
			ProviderID: "fake://1", Type: "big", Zone: "z1", Region: "r1", Labels: map[string]string{"fake.example/rack": "7", "x.kubernetes.io/y": "no"},
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}},
		},
		"off": {ProviderID: "fake://2", Shutdown: true},
	}}
	c := run(t, f)
	create(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}, Spec: corev1.NodeSpec{
		Taints: []corev1.Taint{{Key: "node.cloudprovider.kubernetes.io/uninitialized", Effect: corev1.TaintEffectNoSchedule}},
	}})
	create(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "off"}})
	create(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gone"}})
	has := func(n *corev1.Node, key string) bool {
		return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
	}
	all := testcluster.Await(t, c, "", limit, func(all []*corev1.Node) bool {
		fresh, off := named(all, "new"), named(all, "off")
		return len(all) == 2 && fresh != nil && off != nil && len(fresh.Status.Addresses) > 0 && has(off, "node.cloudprovider.kubernetes.io/shutdown")
	})
	fresh := named(all, "new")
	if fresh.Spec.ProviderID != "fake://1" || has(fresh, "node.cloudprovider.kubernetes.io/uninitialized") {
		t.Errorf("node was not initialized: %+v", fresh.Spec)
	}
	for key, want := range map[string]string{
		corev1.LabelInstanceTypeStable: "big", corev1.LabelTopologyZone: "z1", corev1.LabelTopologyRegion: "r1", "fake.example/rack": "7", "x.kubernetes.io/y": "",
	} {
		if got := fresh.Labels[key]; got != want {
			t.Errorf("label %s = %q, want %q", key, got, want)
		}
	}
}

func TestRoutesLeadToNodes(t *testing.T) {
	f := &fake{
		machines: map[string]cloud.Instance{"n1": {}},
		routes:   map[string]cloud.Route{"10.244.9.0/24": {Destination: "10.244.9.0/24", Node: "former"}},
	}
	c := run(t, f)
	create(t, c, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24"}}})
	testcluster.Await(t, c, "", limit, func(all []*corev1.Node) bool {
		return len(all) == 1 && slices.ContainsFunc(all[0].Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionFalse && c.Reason == "RouteCreated"
		})
	})
	routes, _ := f.List(t.Context()) // the fake's list can't fail
	if len(routes) != 1 || routes[0].Destination != "10.244.1.0/24" || routes[0].Node != "n1" {
		t.Errorf("routes = %+v", routes)
	}
}
