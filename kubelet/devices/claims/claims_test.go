// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kubelet/devices/claims"
	"kogge.dev/kogge/kubelet/devices/fake"
)

// startDriver runs a driver until the returned function is called or the test ends.
func startDriver(t *testing.T) (*fake.Driver, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "d") //nolint:usetesting // t.TempDir's name is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // best effort
	d := fake.NewDriver("gpu.example.com", dir)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, "") }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("driver: %v", err)
		}
	})
	t.Cleanup(stop)
	<-d.Listening()
	return d, stop
}

// node is the claims of one node, with an API server that has one claim, "shared".
type node struct {
	*claims.Claims
	wiped chan string
}

func startNode(t *testing.T, dir string, pods ...*corev1.Pod) *node {
	t.Helper()
	claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shared", UID: "claim-1"}}
	claim.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
		Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: "gpu.example.com", Pool: "n1", Device: "gpu0"}},
	}}
	for _, p := range pods {
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	}
	n := &node{wiped: make(chan string, 10)}
	n.Claims = claims.New(claims.Config{
		Dir: dir, Logger: slog.New(slog.DiscardHandler), WipeDelay: 20 * time.Millisecond,
		Claim: func(_ context.Context, _, name string) (*resourcev1.ResourceClaim, error) {
			if name != claim.Name {
				return nil, errors.New("no such claim")
			}
			return claim, nil
		},
		Wipe: func(_ context.Context, driver string) error { n.wiped <- driver; return nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	if err := n.Load(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { n.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	if got := n.nextWipe(t); got != "" {
		t.Errorf("first wipe is of %q, want all", got)
	}
	return n
}

func (n *node) nextWipe(t *testing.T) string {
	t.Helper()
	select {
	case name := <-n.wiped:
		return name
	case <-time.After(5 * time.Second):
		t.Fatal("no slices are wiped")
		return ""
	}
}

func pod(name string) *corev1.Pod {
	shared := "shared"
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{
			ResourceClaims: []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: &shared}},
			Containers:     []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "gpu"}}}}, {Name: "other"}},
		},
	}
}

func check[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestClaimSharedByPods is prepared once, survives a restart of the kubelet, and is unprepared with its last pod.
func TestClaimSharedByPods(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	d, _ := startDriver(t)
	a, b := pod("a"), pod("b")
	n := startNode(t, dir, a, b)
	if err := n.Prepare(ctx, a); err == nil || err.Error() != "DRA driver gpu.example.com is not registered" {
		t.Errorf("Prepare without driver = %v", err)
	}
	if len(n.Pods()) != 0 {
		t.Errorf("a pod that failed its checks is noted: %v", n.Pods())
	}
	if err := n.Register("gpu.example.com", d.Socket(), []string{"v2.DRAPlugin"}); err == nil {
		t.Error("a driver of an unknown version was taken")
	}
	if err := n.Register("gpu.example.com", d.Socket(), []string{"v1.DRAPlugin", "v1beta1.DRAPlugin"}); err != nil {
		t.Fatal(err)
	}
	d.Refuse("out of order")
	if err := n.Prepare(ctx, a); err == nil || !strings.Contains(err.Error(), "NodePrepareResources failed for ResourceClaim shared: out of order") {
		t.Errorf("Prepare of a refusing driver = %v", err)
	}
	d.Refuse("")
	for _, p := range []*corev1.Pod{a, a, b} {
		if err := n.Prepare(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	check(t, "prepared", d.Prepared(), map[string]int{"shared": 1})
	ids, err := n.CDI(a, &a.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	check(t, "CDI devices", ids, []string{"example.com/gpu=shared"})
	if ids, err := n.CDI(a, &a.Spec.Containers[1]); err != nil || len(ids) > 0 {
		t.Errorf("a container without claims has devices %v, %v", ids, err)
	}
	if err := n.Prepare(ctx, pod("stranger")); err == nil || !strings.Contains(err.Error(), "is not allowed to use ResourceClaim shared") {
		t.Errorf("Prepare of a pod that the claim is not reserved for = %v", err)
	}
	if err := n.Unprepare(ctx, a.UID); err != nil {
		t.Fatal(err)
	}

	n = startNode(t, dir, a, b) // the kubelet comes back
	check(t, "pods after a restart", n.Pods(), []types.UID{b.UID})
	if err := n.Unprepare(ctx, b.UID); err == nil {
		t.Error("unprepared without the driver")
	}
	if err := n.Register("gpu.example.com", d.Socket(), []string{"v1.DRAPlugin"}); err != nil {
		t.Fatal(err)
	}
	if err := n.Prepare(ctx, b); err != nil {
		t.Fatal(err)
	}
	check(t, "prepared after a restart", d.Prepared(), map[string]int{"shared": 2})
	if err := errors.Join(n.Unprepare(ctx, b.UID), n.Unprepare(ctx, b.UID)); err != nil {
		t.Fatal(err)
	}
	check(t, "prepared in the end", d.Prepared(), map[string]int{})
	if len(n.Pods()) != 0 {
		t.Errorf("pods in the end: %v", n.Pods())
	}
}

// TestDriverThatGoes loses its slices, whether its socket was taken away or it just died.
func TestDriverThatGoes(t *testing.T) {
	d, stop := startDriver(t)
	n := startNode(t, t.TempDir())
	if err := n.Register("gpu.example.com", d.Socket(), []string{"v1.DRAPlugin"}); err != nil {
		t.Fatal(err)
	}
	if err := n.Register("gpu.example.com", d.Socket(), []string{"v1.DRAPlugin"}); err == nil {
		t.Error("one endpoint was registered twice")
	}
	stop()
	check(t, "wiped when the driver died", n.nextWipe(t), "gpu.example.com")
	n.Unregister("gpu.example.com", d.Socket())
	check(t, "wiped when the driver was unregistered", n.nextWipe(t), "gpu.example.com")
}

func TestBrokenCheckpointIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dra_manager_state"), []byte(`{"Data":"{}","Checksum":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := claims.New(claims.Config{Dir: dir}).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "corrupt") {
		t.Errorf("Load = %v", err)
	}
}
