// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/cri/fake"
	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/kubelet"
)

// standalone runs a kubelet without API server on a fake runtime until the test ends.
func standalone(t *testing.T, runtime *fake.Runtime) (manifests string) {
	t.Helper()
	dir := t.TempDir()
	manifests = filepath.Join(dir, "manifests")
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	no := false
	k, err := kubelet.New(kubelet.Config{
		NodeName: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Runtime: runtime.CRI(), Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Root: filepath.Join(dir, "kubelet"), PodLogs: filepath.Join(dir, "pods"), ContainerLogs: filepath.Join(dir, "containers"),
		Settings: kubeletconfig.KubeletConfiguration{StaticPodPath: manifests, CgroupsPerQOS: &no},
	})
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

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
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
}
