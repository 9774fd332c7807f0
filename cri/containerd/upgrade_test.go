// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"os"
	"slices"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd/embedded"
)

// TestUpgradeAdoptsPods replaces containerd and the helper programs under a running pod, on a machine without a shim of its
// own: container and process stay, new containers start beside the old one, and the old programs go with the pod.
func TestUpgradeAdoptsPods(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	config, s := node(t)
	image := importProgram(t, s)
	r := connect(t, s)
	pod, sandbox := startPod(t, r, config, "survivor")
	old := startContainer(t, r, pod, sandbox, "old", image)
	pid := containerPID(t, r, old)
	before, err := Inspect(config)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	config.programs = "2222222222222222"
	s = supervise(t, config)
	if after, err := Inspect(config); err != nil || after.PID == before.PID {
		t.Fatalf("Inspect after the upgrade = %+v, %v, want another process than %d", after, err, before.PID)
	}
	r = connect(t, s)
	status, err := r.Containers.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: old})
	if err != nil || status.Status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Fatalf("ContainerStatus after the upgrade = %v, %v, want running", status, err)
	}
	if now := containerPID(t, r, old); now != pid {
		t.Errorf("process after the upgrade = %d, want %d", now, pid)
	}
	startContainer(t, r, pod, sandbox, "new", image)
	wantPrograms(t, config, embedded.Digest(), config.programs)
	shims, err := Shims(config)
	if err != nil || len(shims) != 1 {
		t.Fatalf("Shims = %v, %v, want one", shims, err)
	}
	if _, err := r.Containers.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Errorf("StopPodSandbox: %v", err)
	}
	_ = waitExit(t.Context(), shims[0]) // says that it has ended
	s.stop()
	supervise(t, config)
	wantPrograms(t, config, config.programs)
}

// startContainer runs a container that waits.
func startContainer(t *testing.T, r *cri.Runtime, pod *runtimeapi.PodSandboxConfig, sandbox, name, image string) string {
	t.Helper()
	c, err := r.Containers.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, SandboxConfig: pod, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: image}, Command: []string{"/pause"}, LogPath: name + ".log",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Containers.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		t.Fatal(err)
	}
	return c.ContainerId
}

// wantPrograms compares the sets of programs on disk.
func wantPrograms(t *testing.T, config Config, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(config.binDir())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("sets of programs = %v, want %v", got, want)
	}
}
