// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd/embedded"
)

// TestProgramRunsUnderRuncWithLimits runs a real program, which prints an error and ends with 1, as a container's process
// and by exec, under the default seccomp profile, with a memory limit and an oom score below what this host may allow.
func TestProgramRunsUnderRuncWithLimits(t *testing.T) {
	config, s := node(t)
	r := connect(t, s)
	image := importProgram(t, s)
	pod, sandbox := startPod(t, r, config, "limits")
	limits := &runtimeapi.LinuxContainerConfig{
		Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 512, CpuQuota: 50000, CpuPeriod: 100000, OomScoreAdj: -900},
		SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			Seccomp:      &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
			Capabilities: &runtimeapi.Capability{DropCapabilities: []string{"ALL"}}, NoNewPrivs: true,
			RunAsUser: &runtimeapi.Int64Value{Value: 1000}, ReadonlyRootfs: true,
		},
	}
	run := func(name string, command ...string) string {
		t.Helper()
		c, err := r.Containers.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, SandboxConfig: pod, Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: image}, Command: command, LogPath: name + ".log", Linux: limits,
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Containers.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
			t.Fatal(err)
		}
		return c.ContainerId
	}
	const says = "CNI_COMMAND is not set"
	server := run("server", "/pause")
	exec, err := r.Containers.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: server, Cmd: []string{"/program"}, Timeout: 10})
	if err != nil || exec.ExitCode != 1 || !strings.Contains(string(exec.Stdout), says) {
		t.Errorf("ExecSync = %v, %v, want exit code 1 and %q", exec, err, says)
	}
	seccomp, err := os.ReadFile(filepath.Join("/proc", pidOf(t, r, server), "status"))
	if err != nil || !strings.Contains(string(seccomp), "Seccomp:\t2") {
		t.Errorf("container's status = %s, %v, want a seccomp filter", seccomp, err)
	}
	events := make(chan string, 100)
	ready := make(chan struct{})
	go func() {
		_ = r.Events(t.Context(), func() { close(ready) }, func(e *runtimeapi.ContainerEventResponse) {
			if e.ContainerEventType == runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT {
				events <- e.ContainerId
			}
		})
	}()
	<-ready
	job := run("job", "/program")
	for id := ""; id != job; {
		select {
		case id = <-events:
		case <-time.After(20 * time.Second):
			t.Fatal("no stop event")
		}
	}
	status, err := r.Containers.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: job})
	if err != nil || status.Status.ExitCode != 1 || status.Status.State != runtimeapi.ContainerState_CONTAINER_EXITED {
		t.Errorf("ContainerStatus = %v, %v, want exited with 1", status, err)
	}
	log, err := os.ReadFile(filepath.Join(pod.LogDirectory, "job.log"))
	if err != nil || !strings.Contains(string(log), " stdout F ") || !strings.Contains(string(log), says) {
		t.Errorf("log = %q, %v, want %q on stdout", log, err, says)
	}
}

// TestTwoOnOneMachine runs two nodes side by side: each sees its own pods only, and the purge of one leaves the other's.
func TestTwoOnOneMachine(t *testing.T) {
	one, first := node(t)
	two, second := node(t)
	r1, r2 := connect(t, first), connect(t, second)
	startPod(t, r1, one, "one")
	_, keep := startPod(t, r2, two, "two")
	for name, r := range map[string]*cri.Runtime{"one": r1, "two": r2} {
		list, err := r.Containers.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
		if err != nil || len(list.Items) != 1 || list.Items[0].Metadata.Name != name {
			t.Errorf("sandboxes of node %s = %v, %v, want its own", name, list, err)
		}
	}
	first.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := Purge(ctx, one); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{one.DataDir, one.RunDir} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s after Purge: %v, want it gone", path, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), filepath.Dir(one.DataDir)) {
		t.Errorf("mounts below %s are left, %v", filepath.Dir(one.DataDir), err)
	}
	status, err := r2.Containers.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: keep})
	if err != nil || status.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Errorf("pod of the other node = %v, %v, want ready", status, err)
	}
}

func connect(t *testing.T, s *supervised) *cri.Runtime {
	t.Helper()
	r, err := cri.Connect(t.Context(), s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// startPod runs a sandbox in the host's network.
func startPod(t *testing.T, r *cri.Runtime, config Config, name string) (*runtimeapi.PodSandboxConfig, string) {
	t.Helper()
	pod := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "n", Uid: "u-" + name}, LogDirectory: t.TempDir(),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    "/kogge/" + config.NodeName + "/pods",
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}},
		},
	}
	sandbox, err := r.Containers.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	return pod, sandbox.PodSandboxId
}

// importProgram imports an image that holds pause and, as /program, the CNI plugin: without its environment it prints an
// error and ends with 1.
func importProgram(t *testing.T, s *supervised) string {
	t.Helper()
	var files []tarFile
	for name, program := range map[string]string{"pause": embedded.Pause, "program": embedded.CNI} {
		data, err := embedded.Read(program)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, tarFile{name, data, 0o755})
	}
	layer, err := tarFiles(files...)
	if err != nil {
		t.Fatal(err)
	}
	config, manifest, err := imageOf(layer)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := imageArchive("example.test/program:1", layer, config, manifest)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Import(t.Context(), s.Socket(), archive)
	if err != nil {
		t.Fatal(err)
	}
	return got[0].Name
}
