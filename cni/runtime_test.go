// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
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

// TestSandboxOfContainerdHasNetwork runs a pod by containerd inside the node's namespace: it gets its address from this
// package and answers pings of nobody but the kernel, which is enough to see that the path is whole.
func TestSandboxOfContainerdHasNetwork(t *testing.T) {
	m := newMachine(t, "10.244.1.0/24")
	config := containerd.Config{
		DataDir: filepath.Join(m.dir, "containerd"), RunDir: filepath.Join(m.dir, "run"), NodeName: filepath.Base(m.dir),
		CNIConfDir: filepath.Join(m.dir, "net.d"), CNIBinDirs: []string{filepath.Join(m.dir, "bin")}, NetNS: m.node,
	}
	supervisor, err := containerd.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- supervisor.Run(ctx); cancel() }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		bound, stop := context.WithTimeout(context.Background(), 20*time.Second)
		defer stop()
		if err := containerd.Purge(bound, config); err != nil {
			t.Errorf("Purge: %v", err)
		}
	})
	r, err := cri.Connect(ctx, supervisor.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	awaitNetwork(t, r)
	pod := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "u1"}, Hostname: "web",
		PortMappings: []*runtimeapi.PortMapping{{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 80, HostPort: 8080}},
		LogDirectory: t.TempDir(), Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kogge/" + config.NodeName + "/pods"},
	}
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
