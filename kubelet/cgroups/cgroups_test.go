// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kogge.dev/kogge/internal/need"
)

// TestTree makes a tree in the machine's real hierarchies, below a root of its own, and leaves nothing.
func TestTree(t *testing.T) {
	need.Root(t, "cgroups are made")
	root := fmt.Sprintf("/kogge/test-%d", os.Getpid())
	tree := New(Config{Root: root, Mount: "/sys/fs/cgroup", CPU: 2000, Pids: 100, Quota: true, Period: 100000})
	t.Cleanup(func() {
		for _, dir := range tree.dirs(root) {
			if err := removeTree(dir); err != nil {
				t.Error(err)
			}
		}
	})
	if err := tree.Setup(); err != nil {
		t.Fatal(err)
	}
	limit := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: limit, Limits: limit}}}}}
	p.UID = "u1"
	if err := tree.Ensure(p, corev1.PodQOSBurstable); err != nil {
		t.Fatal(err)
	}
	if got := tree.read(tree.PodPath("u1", corev1.PodQOSBurstable)).MemoryLimit; got != 64<<20 {
		t.Errorf("memory limit = %d, want %d", got, 64<<20)
	}
	if got := tree.Pods(); len(got) != 1 || got[0] != "u1" {
		t.Errorf("Pods = %v, want u1", got)
	}

	// A process that is left in a container's cgroup is killed with it.
	dir := filepath.Join(tree.dirs(tree.PodPath("u1", corev1.PodQOSBurstable))[0], "c1")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("sleep", "60") // it is killed below
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(left.Process.Pid)), 0o644); err != nil {
		_ = left.Process.Kill()
		t.Fatalf("move a process: %v", err)
	}
	_ = tree.Sweep("u1", corev1.PodQOSBurstable, "c1") // may report that the process has not gone yet
	if err := left.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("left process: %v, want killed", err)
	}
	if err := tree.Remove("u1"); err != nil {
		t.Fatal(err)
	}
	if got := tree.Pods(); len(got) != 0 {
		t.Errorf("Pods = %v after Remove", got)
	}
}
