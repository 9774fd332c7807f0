// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd"
)

// TestMain lets the test binary be the containerd child that the supervisor starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == containerd.Verb {
		os.Exit(containerd.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// runtime starts containerd inside the node's namespace. stop ends its supervisor.
func (m *machine) runtime() (r *cri.Runtime, config containerd.Config, stop func()) {
	m.t.Helper()
	config = containerd.Config{
		DataDir: filepath.Join(m.dir, "containerd"), RunDir: filepath.Join(m.dir, "run"), NodeName: filepath.Base(m.dir),
		CNIConfDir: filepath.Join(m.dir, "net.d"), CNIBinDirs: []string{filepath.Join(m.dir, "bin")}, NetNS: m.node,
	}
	supervisor, err := containerd.New(config)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan error, 1)
	go func() { done <- supervisor.Run(ctx); cancel() }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("Run: %v", err)
		}
	})
	m.t.Cleanup(func() {
		stop()
		bound, done := context.WithTimeout(context.Background(), 20*time.Second)
		defer done()
		if err := containerd.Purge(bound, config); err != nil {
			m.t.Errorf("Purge: %v", err)
		}
	})
	if r, err = cri.Connect(ctx, supervisor.Socket()); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = r.Close() })
	awaitNetwork(m.t, r)
	return r, config, stop
}

// sandboxConfig is a pod with a host port.
func (m *machine) sandboxConfig() *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "u1"}, Hostname: "web",
		PortMappings: []*runtimeapi.PortMapping{{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 80, HostPort: 8080}},
		LogDirectory: m.t.TempDir(), Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kogge/" + filepath.Base(m.dir) + "/pods"},
	}
}

// TestSandboxOfContainerdHasNetwork runs a pod by containerd inside the node's namespace.
func TestSandboxOfContainerdHasNetwork(t *testing.T) {
	m := newMachine(t, "10.244.1.0/24")
	r, _, _ := m.runtime()
	ctx := t.Context()
	pod := m.sandboxConfig()
	began := time.Now()
	sandbox, err := r.Containers.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("sandbox with network in %v", time.Since(began))
	status, err := r.Containers.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox.PodSandboxId})
	if err != nil || status.Status.Network.Ip != "10.244.1.2" {
		t.Fatalf("PodSandboxStatus = %v, %v, want address 10.244.1.2", status, err)
	}
	// Nobody listens in the pod: a refusal by its kernel proves the way there and back.
	if _, err := m.ask(m.outside, nodeIP+":8080"); err == nil || !isRefused(err) {
		t.Errorf("host port: %v, want connection refused", err)
	}
	for owner, a := range m.attachments {
		if a.Pod != "default/web" || a.Addresses[0] != netip.MustParseAddr("10.244.1.2") {
			t.Errorf("attachment %v = %+v", owner, a)
		}
	}
	if _, err := r.Containers.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox.PodSandboxId}); err != nil {
		t.Fatal(err)
	}
	if len(m.attachments) != 0 {
		t.Errorf("attachments after stop: %v", m.attachments)
	}
	if _, err := r.Containers.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox.PodSandboxId}); err != nil {
		t.Fatal(err)
	}
}

// TestResetOfARunningPodLeavesNothing undoes a node whose pod was never stopped.
func TestResetOfARunningPodLeavesNothing(t *testing.T) {
	m := newMachine(t, "10.244.1.0/24")
	r, config, stop := m.runtime()
	if _, err := r.Containers.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: m.sandboxConfig()}); err != nil {
		t.Fatal(err)
	}
	entries := m.ledger.Entries()
	m.stop()
	stop()
	if err := containerd.Purge(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := Purge(m.config); err != nil {
		t.Fatal(err)
	}
	if err := m.ledger.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := m.ledger.Verify(t.Context(), entries); err != nil || len(left) > 0 {
		t.Errorf("Verify = %v, %v, want nothing", left, err)
	}
	var found []string
	list, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		found = append(found, e.Name())
	}
	if got := strings.Join(found, " "); got != "ledger node outside" {
		t.Errorf("left in the node's folder: %s; want only what the test made: ledger node outside", got)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(mounts), m.dir); n != 2 {
		t.Errorf("%d mounts below the node's folder, want the test's two namespaces", n)
	}
	if list, _ := filepath.Glob("/sys/fs/cgroup/*/kogge/" + config.NodeName); len(list) > 0 {
		t.Errorf("cgroups are left: %v", list)
	}
}

// awaitNetwork waits until the runtime has read the network configuration.
func awaitNetwork(t *testing.T, r *cri.Runtime) {
	t.Helper()
	for range 1000 {
		status, err := r.Containers.Status(t.Context(), &runtimeapi.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range status.Status.Conditions {
			if c.Type == runtimeapi.NetworkReady && c.Status {
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("network is not ready")
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
