// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/cri/fake"
	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/kubelet"
)

// standalone runs a kubelet without API server on a fake runtime until the test ends.
func standalone(t *testing.T, runtime *fake.Runtime, change ...func(*kubelet.Config)) (manifests string) {
	t.Helper()
	dir := t.TempDir()
	manifests = filepath.Join(dir, "manifests")
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	no := false
	config := kubelet.Config{
		NodeName: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Runtime: runtime.CRI(), Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Root: filepath.Join(dir, "kubelet"), PodLogs: filepath.Join(dir, "pods"), ContainerLogs: filepath.Join(dir, "containers"),
		Settings: kubeletconfig.KubeletConfiguration{StaticPodPath: manifests, CgroupsPerQOS: &no},
	}
	for _, f := range change {
		f(&config)
	}
	k, err := kubelet.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return manifests
}

// patience is longer than what is waited for before anything is tried again: the scheduler lets a pod that did not fit wait for up to ten seconds.
const patience = 20 * time.Second

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

const manifest = `
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: example.org/app:1
    env: [{name: A, value: b}, {name: B, value: "$(A)c"}]
    volumeMounts: [{name: scratch, mountPath: /scratch, subPath: x}]
  volumes: [{name: scratch, emptyDir: {}}]
`

const plain = `
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: c, image: "example.org/app:1"}]
`

func TestStaticPodRunsRestartsAndEnds(t *testing.T) {
	need.Root(t, "volumes are mounted")
	runtime := fake.New(fake.Config{}, "example.org/app:1")
	manifests := standalone(t, runtime)
	file := filepath.Join(manifests, "web.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "container runs", func() bool { return len(runtime.Find("web-n1", "c")) == 1 })
	first := runtime.Find("web-n1", "c")[0]
	if err := runtime.Exit(first, 137); err != nil {
		t.Fatal(err)
	}
	eventually(t, "container runs again", func() bool {
		now := runtime.Find("web-n1", "c")
		return len(now) == 1 && now[0] != first
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "container is gone", func() bool { return len(runtime.Find("web-n1", "c")) == 0 })
	eventually(t, "what was mounted for the pod is gone", func() bool {
		left, err := os.ReadDir(filepath.Join(filepath.Dir(manifests), "kubelet", "pods"))
		return err == nil && len(left) == 0
	})
}

// A node that is being taken down while its kubelet runs starts nothing, and does not start again what was stopped.
func TestNothingStartsWhileHeld(t *testing.T) {
	runtime := fake.New(fake.Config{}, "example.org/app:1")
	var held atomic.Bool
	var asked atomic.Int64
	manifests := standalone(t, runtime, func(c *kubelet.Config) {
		c.Held = func() bool {
			asked.Add(1)
			return held.Load()
		}
	})
	if err := os.WriteFile(filepath.Join(manifests, "web.yaml"), []byte(plain), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "container runs", func() bool { return len(runtime.Find("web-n1", "c")) == 1 })
	held.Store(true)
	before := asked.Load()
	if err := runtime.Exit(runtime.Find("web-n1", "c")[0], 137); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a start is held back", func() bool { return asked.Load() > before })
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if now := runtime.Find("web-n1", "c"); len(now) != 0 {
			t.Fatalf("%d containers run on a held node", len(now))
		}
	}
}

// slow makes sandboxes once goOn is closed, or fails when the caller gives up. begun has the context of each.
type slow struct {
	runtimeapi.RuntimeServiceClient

	begun chan context.Context
	goOn  chan struct{}
}

func (s slow) RunPodSandbox(ctx context.Context, in *runtimeapi.RunPodSandboxRequest, opts ...grpc.CallOption) (*runtimeapi.RunPodSandboxResponse, error) {
	s.begun <- ctx
	select {
	case <-s.goOn:
		return s.RuntimeServiceClient.RunPodSandbox(ctx, in, opts...)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// A sandbox that is being made when its pod goes is not given up, of which containerd loses the shim: it is made, and removed.
func TestSandboxIsMadeToItsEnd(t *testing.T) {
	runtime := fake.New(fake.Config{}, "example.org/app:1")
	maker := slow{runtime.CRI().Containers, make(chan context.Context, 8), make(chan struct{})}
	manifests := standalone(t, runtime, func(c *kubelet.Config) { c.Runtime.Containers = maker })
	file, next := filepath.Join(manifests, "web.yaml"), filepath.Join(manifests, "next.yaml")
	if err := os.WriteFile(file, []byte(plain), 0o644); err != nil {
		t.Fatal(err)
	}
	first := <-maker.begun
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// A pod that comes afterwards is made when it is known that the first is gone.
	if err := os.WriteFile(next, []byte(strings.Replace(plain, "web", "next", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	<-maker.begun
	if first.Err() != nil {
		t.Error("the sandbox was given up when its pod went")
	}
	close(maker.goOn)
	eventually(t, "the pod that came later runs alone", func() bool {
		list, err := maker.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
		return err == nil && len(list.GetItems()) == 1 && len(runtime.Find("next-n1", "c")) == 1
	})
	if n := len(runtime.Find("web-n1", "c")); n != 0 {
		t.Errorf("%d containers run in the sandbox of a pod that is gone", n)
	}
}
