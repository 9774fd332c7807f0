// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/critest"
)

func TestSuite(t *testing.T) {
	config, s := node(t)
	r := connect(t, s)
	critest.Run(t, critest.Target{
		Runtime: r, Image: DefaultPauseImage, CgroupParent: "/kogge/" + config.NodeName + "/pods",
		Kill: func(t *testing.T, id string) {
			t.Helper()
			kill(t, containerPID(t, r, id))
		},
	})
}

// containerPID asks containerd for the host pid of a container's first process.
func containerPID(t *testing.T, r *cri.Runtime, id string) int {
	t.Helper()
	status, err := r.Containers.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal([]byte(status.Info["info"]), &info); err != nil || info.PID == 0 {
		t.Fatalf("container info = %v, %v, want a pid", status.Info, err)
	}
	return info.PID
}

func kill(t *testing.T, pid int) {
	t.Helper()
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// TestPodsOutliveContainerd kills containerd under a running pod: the next one knows the pod and can stop it.
func TestPodsOutliveContainerd(t *testing.T) {
	config, s := node(t)
	began := time.Now()
	_, sandbox := startPod(t, connect(t, s), config, "survivor")
	t.Logf("sandbox in %v", time.Since(began))
	before, err := Inspect(config)
	if err != nil {
		t.Fatal(err)
	}
	kill(t, before.PID)
	if err := waitExit(t.Context(), before.PID); err == nil {
		t.Fatal("waitExit = nil, want an error that says so")
	}
	again := connect(t, s)
	status, err := again.Containers.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil || status.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Fatalf("PodSandboxStatus after a restart = %v, %v, want ready", status, err)
	}
	if rest, err := time.ParseDuration(os.Getenv("KOGGE_MEASURE")); err == nil {
		logMemory(t, config, rest)
	}
	if _, err := again.Containers.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Errorf("StopPodSandbox: %v", err)
	}
	if _, err := again.Containers.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Errorf("RemovePodSandbox: %v", err)
	}
}

// logMemory writes down the memory of containerd and the shims after a time of rest, which the environment variable
// KOGGE_MEASURE gives.
func logMemory(t *testing.T, config Config, rest time.Duration) {
	t.Helper()
	time.Sleep(rest)
	pids, err := Shims(config)
	if err != nil {
		t.Fatal(err)
	}
	status, err := Inspect(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(pids, status.PID) {
		t.Log(memory(t, pid))
	}
}

// memory is the command line and the resident memory of a process.
func memory(t *testing.T, pid int) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	command, err := os.ReadFile(dir + "comm")
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		t.Fatal(err)
	}
	out := strings.TrimSpace(string(command))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "Rss") {
			out += " " + strings.Join(strings.Fields(line), " ")
		}
	}
	return out
}

func pidOf(t *testing.T, r *cri.Runtime, id string) string {
	t.Helper()
	return strconv.Itoa(containerPID(t, r, id))
}
