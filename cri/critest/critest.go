// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package critest is the suite that every container runtime behind package cri passes, the fake as well as the real one.
// It holds what the kubelet relies on: states and their order, idempotence, name reservation, filters and events.
package critest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
)

// Target is one runtime under test.
type Target struct {
	// Runtime is the connection.
	Runtime *cri.Runtime
	// Image is present and holds a program that runs until SIGTERM and then ends with 0, as pause does.
	Image string
	// CgroupParent is where sandboxes are placed; empty for the runtime's default.
	CgroupParent string
	// Kill ends a running container's first process with SIGKILL from outside.
	Kill func(t *testing.T, containerID string)
}

// waitLimit bounds the wait for an event. It is reached only by a runtime that fails.
const waitLimit = 20 * time.Second

// Run runs the suite. Each subtest cleans up its own pod.
func Run(t *testing.T, target Target) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, *pod)
	}{
		{"version and status", testVersion},
		{"sandbox goes from ready to not ready to gone", testSandbox},
		{"container is created, runs, stops and is removed", testContainer},
		{"killed container leaves its sandbox alone", testKill},
		{"stopping a sandbox stops its containers", testStopSandbox},
		{"removing a sandbox removes its containers", testRemoveSandbox},
		{"names are reserved until removal", testNames},
		{"unknown objects", testUnknown},
		{"filters", testFilters},
		{"events follow the life of a container", testEvents},
		{"images", testImages},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newPod(t, target)) })
	}
}

// pod is a scratch pod of one subtest.
type pod struct {
	Target

	uid    string
	config *runtimeapi.PodSandboxConfig
}

func newPod(t *testing.T, target Target) *pod {
	t.Helper()
	uid := fmt.Sprintf("uid-%d", time.Now().UnixNano())
	p := &pod{Target: target, uid: uid, config: &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "pod", Namespace: "critest", Uid: uid, Attempt: 0},
		Labels:       map[string]string{"uid": uid, "suite": "critest"},
		Annotations:  map[string]string{"note": "kept"},
		LogDirectory: t.TempDir(),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: target.CgroupParent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		list, err := target.Runtime.Containers.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"uid": uid}}})
		if err != nil {
			t.Errorf("list sandboxes: %v", err)
			return
		}
		for _, s := range list.Items {
			if _, err := target.Runtime.Containers.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.Id}); err != nil {
				t.Errorf("stop sandbox: %v", err)
			}
			if _, err := target.Runtime.Containers.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.Id}); err != nil {
				t.Errorf("remove sandbox: %v", err)
			}
		}
	})
	return p
}

func (p *pod) run(t *testing.T) string {
	t.Helper()
	r, err := p.Runtime.Containers.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		t.Fatalf("RunPodSandbox: %v", err)
	}
	return r.PodSandboxId
}

func (p *pod) containerConfig(name string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: p.Image},
		Labels: map[string]string{"uid": p.uid, "name": name}, LogPath: name + ".log", Linux: &runtimeapi.LinuxContainerConfig{},
	}
}

func (p *pod) create(t *testing.T, sandbox, name string) string {
	t.Helper()
	r, err := p.Runtime.Containers.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: p.config, Config: p.containerConfig(name),
	})
	if err != nil {
		t.Fatalf("CreateContainer: %v", err)
	}
	return r.ContainerId
}

func (p *pod) start(t *testing.T, id string) {
	t.Helper()
	if _, err := p.Runtime.Containers.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatalf("StartContainer: %v", err)
	}
}

func (p *pod) status(t *testing.T, id string) *runtimeapi.ContainerStatus {
	t.Helper()
	r, err := p.Runtime.Containers.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		t.Fatalf("ContainerStatus: %v", err)
	}
	return r.Status
}

// watch follows events until the test ends; the channel has room for all that one test can cause.
func (p *pod) watch(t *testing.T) <-chan *runtimeapi.ContainerEventResponse {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, ready, done := make(chan *runtimeapi.ContainerEventResponse, 1000), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Runtime.Events(ctx, func() { close(ready) }, func(e *runtimeapi.ContainerEventResponse) { events <- e })
	}()
	select {
	case <-ready:
	case <-done:
		t.Error("event stream ended at once")
	}
	t.Cleanup(func() { cancel(); <-done })
	return events
}

// await returns the first event of kind about id.
func await(t *testing.T, events <-chan *runtimeapi.ContainerEventResponse, id string, kind runtimeapi.ContainerEventType) *runtimeapi.ContainerEventResponse {
	t.Helper()
	timer := time.NewTimer(waitLimit)
	defer timer.Stop()
	for {
		select {
		case e := <-events:
			if e.ContainerId == id && e.ContainerEventType == kind {
				return e
			}
		case <-timer.C:
			t.Fatalf("no event %s of %s within %v", kind, id, waitLimit)
			return nil
		}
	}
}

func testVersion(t *testing.T, p *pod) {
	v, err := p.Runtime.Containers.Version(t.Context(), &runtimeapi.VersionRequest{})
	if err != nil || v.RuntimeName == "" || v.RuntimeApiVersion != "v1" {
		t.Errorf("Version = %v, %v, want a name and API version v1", v, err)
	}
	s, err := p.Runtime.Containers.Status(t.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	for _, condition := range s.Status.Conditions {
		if condition.Type == runtimeapi.RuntimeReady && !condition.Status {
			t.Errorf("Status: RuntimeReady is false: %s", condition.Message)
		}
	}
}

func testSandbox(t *testing.T, p *pod) {
	id := p.run(t)
	s, err := p.Runtime.Containers.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil || s.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Fatalf("PodSandboxStatus = %v, %v, want ready", s, err)
	}
	if s.Status.Metadata.Uid != p.uid || s.Status.Labels["suite"] != "critest" || s.Status.Annotations["note"] != "kept" {
		t.Errorf("PodSandboxStatus = %v, want metadata, labels and annotations as given", s.Status)
	}
	for range 2 { // stopping twice is no error
		if _, err := p.Runtime.Containers.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
			t.Fatalf("StopPodSandbox: %v", err)
		}
	}
	s, err = p.Runtime.Containers.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil || s.Status.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("PodSandboxStatus after stop = %v, %v, want not ready", s, err)
	}
	_, err = p.Runtime.Containers.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: id, SandboxConfig: p.config, Config: p.containerConfig("late")})
	if err == nil {
		t.Error("CreateContainer in a stopped sandbox succeeded")
	}
	for range 2 {
		if _, err := p.Runtime.Containers.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
			t.Fatalf("RemovePodSandbox: %v", err)
		}
	}
	if _, err := p.Runtime.Containers.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id}); !cri.IsNotFound(err) {
		t.Errorf("PodSandboxStatus after removal: %v, want NotFound", err)
	}
}

func testContainer(t *testing.T, p *pod) {
	id := p.create(t, p.run(t), "main")
	if s := p.status(t, id); s.State != runtimeapi.ContainerState_CONTAINER_CREATED || s.CreatedAt == 0 || s.StartedAt != 0 || s.ImageRef == "" {
		t.Errorf("status after create = %v, want created, with an image reference and no start", s)
	}
	p.start(t, id)
	if s := p.status(t, id); s.State != runtimeapi.ContainerState_CONTAINER_RUNNING || s.StartedAt < s.CreatedAt {
		t.Errorf("status after start = %v, want running", s)
	}
	if _, err := p.Runtime.Containers.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err == nil {
		t.Error("second StartContainer succeeded")
	}
	for range 2 {
		if _, err := p.Runtime.Containers.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 10}); err != nil {
			t.Fatalf("StopContainer: %v", err)
		}
	}
	if s := p.status(t, id); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.ExitCode != 0 || s.Reason != "Completed" || s.FinishedAt < s.StartedAt {
		t.Errorf("status after stop = %v, want exited with 0 and reason Completed", s)
	}
	for range 2 {
		if _, err := p.Runtime.Containers.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
			t.Fatalf("RemoveContainer: %v", err)
		}
	}
	if _, err := p.Runtime.Containers.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id}); !cri.IsNotFound(err) {
		t.Errorf("ContainerStatus after removal: %v, want NotFound", err)
	}
}

func testKill(t *testing.T, p *pod) {
	sandbox := p.run(t)
	id := p.create(t, sandbox, "main")
	events := p.watch(t)
	p.start(t, id)
	p.Kill(t, id)
	await(t, events, id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	if s := p.status(t, id); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.ExitCode != 137 || s.Reason != "Error" {
		t.Errorf("status after kill = %v, want exited with 137 and reason Error", s)
	}
	s, err := p.Runtime.Containers.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil || s.Status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		t.Errorf("PodSandboxStatus = %v, %v, want still ready", s, err)
	}
}

func testStopSandbox(t *testing.T, p *pod) {
	sandbox := p.run(t)
	id := p.create(t, sandbox, "main")
	p.start(t, id)
	if _, err := p.Runtime.Containers.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatalf("StopPodSandbox: %v", err)
	}
	if s := p.status(t, id); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.ExitCode != 137 {
		t.Errorf("status = %v, want exited with 137", s)
	}
}

func testRemoveSandbox(t *testing.T, p *pod) {
	sandbox := p.run(t)
	id := p.create(t, sandbox, "main")
	p.start(t, id)
	if _, err := p.Runtime.Containers.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatalf("RemovePodSandbox: %v", err)
	}
	if _, err := p.Runtime.Containers.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id}); !cri.IsNotFound(err) {
		t.Errorf("ContainerStatus: %v, want NotFound", err)
	}
}

func testNames(t *testing.T, p *pod) {
	sandbox := p.run(t)
	if _, err := p.Runtime.Containers.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: p.config}); err == nil {
		t.Error("second sandbox of the same name and attempt succeeded")
	}
	id := p.create(t, sandbox, "main")
	again := &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, SandboxConfig: p.config, Config: p.containerConfig("main")}
	if _, err := p.Runtime.Containers.CreateContainer(t.Context(), again); err == nil {
		t.Error("second container of the same name and attempt succeeded")
	}
	again.Config.Metadata.Attempt = 1
	if _, err := p.Runtime.Containers.CreateContainer(t.Context(), again); err != nil {
		t.Errorf("container of the next attempt: %v", err)
	}
	if _, err := p.Runtime.Containers.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatalf("RemoveContainer: %v", err)
	}
	p.create(t, sandbox, "main")
}

func testUnknown(t *testing.T, p *pod) {
	ctx, c := t.Context(), p.Runtime.Containers
	if _, err := c.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: "nothing"}); err != nil {
		t.Errorf("StopPodSandbox: %v, want nil", err)
	}
	if _, err := c.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: "nothing"}); err != nil {
		t.Errorf("RemovePodSandbox: %v, want nil", err)
	}
	if _, err := c.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: "nothing"}); err != nil {
		t.Errorf("StopContainer: %v, want nil", err)
	}
	if _, err := c.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: "nothing"}); err != nil {
		t.Errorf("RemoveContainer: %v, want nil", err)
	}
	if _, err := c.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: "nothing"}); !cri.IsNotFound(err) {
		t.Errorf("StartContainer: %v, want NotFound", err)
	}
	if _, err := c.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: "nothing", Cmd: []string{"true"}}); !cri.IsNotFound(err) {
		t.Errorf("ExecSync: %v, want NotFound", err)
	}
	if _, err := c.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: "nothing"}); !cri.IsNotFound(err) {
		t.Errorf("ContainerStats: %v, want NotFound", err)
	}
}

func testFilters(t *testing.T, p *pod) {
	sandbox := p.run(t)
	a, b := p.create(t, sandbox, "a"), p.create(t, sandbox, "b")
	p.start(t, b)
	mine := map[string]string{"uid": p.uid}
	for _, c := range []struct {
		name   string
		filter *runtimeapi.ContainerFilter
		want   []string
	}{
		{"pod", &runtimeapi.ContainerFilter{PodSandboxId: sandbox}, []string{a, b}},
		{"label", &runtimeapi.ContainerFilter{LabelSelector: map[string]string{"uid": p.uid, "name": "a"}}, []string{a}},
		{"state", &runtimeapi.ContainerFilter{LabelSelector: mine, State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}, []string{b}},
		{"id", &runtimeapi.ContainerFilter{Id: a}, []string{a}},
		{"other label", &runtimeapi.ContainerFilter{LabelSelector: map[string]string{"uid": p.uid, "name": "c"}}, nil},
	} {
		list, err := p.Runtime.Containers.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: c.filter})
		if err != nil {
			t.Fatalf("ListContainers(%s): %v", c.name, err)
		}
		var got []string
		for _, found := range list.Containers {
			got = append(got, found.Id)
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("ListContainers(%s) = %v, want %v", c.name, got, c.want)
		}
	}
	for state, want := range map[runtimeapi.PodSandboxState]int{runtimeapi.PodSandboxState_SANDBOX_READY: 1, runtimeapi.PodSandboxState_SANDBOX_NOTREADY: 0} {
		list, err := p.Runtime.Containers.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
			LabelSelector: mine, State: &runtimeapi.PodSandboxStateValue{State: state},
		}})
		if err != nil || len(list.Items) != want {
			t.Errorf("ListPodSandbox(%s) = %v, %v, want %d", state, list, err, want)
		}
	}
}

func testEvents(t *testing.T, p *pod) {
	sandbox := p.run(t)
	events := p.watch(t)
	id := p.create(t, sandbox, "main")
	await(t, events, id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	p.start(t, id)
	await(t, events, id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	if _, err := p.Runtime.Containers.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 10}); err != nil {
		t.Fatalf("StopContainer: %v", err)
	}
	e := await(t, events, id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	if e.GetPodSandboxStatus().GetMetadata().GetUid() != p.uid {
		t.Errorf("stop event = %v, want the sandbox's status in it", e)
	}
	if _, err := p.Runtime.Containers.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatalf("RemoveContainer: %v", err)
	}
	await(t, events, id, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	if _, err := p.Runtime.Containers.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Fatalf("StopPodSandbox: %v", err)
	}
	await(t, events, sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

func testImages(t *testing.T, p *pod) {
	s, err := p.Runtime.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: p.Image}})
	if err != nil || s.Image == nil || s.Image.Id == "" || s.Image.Size == 0 {
		t.Fatalf("ImageStatus(%s) = %v, %v, want an image with id and size", p.Image, s, err)
	}
	byID, err := p.Runtime.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: s.Image.Id}})
	if err != nil || byID.Image.GetId() != s.Image.Id {
		t.Errorf("ImageStatus(%s) = %v, %v, want the same image", s.Image.Id, byID, err)
	}
	none, err := p.Runtime.Images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "example.test/none:1"}})
	if err != nil || none.Image != nil {
		t.Errorf("ImageStatus of an unknown image = %v, %v, want neither image nor error", none, err)
	}
	list, err := p.Runtime.Images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || !slices.ContainsFunc(list.Images, func(i *runtimeapi.Image) bool { return i.Id == s.Image.Id }) {
		t.Errorf("ListImages = %v, %v, want %s among them", list, err, s.Image.Id)
	}
	if _, err := p.Runtime.Images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: "example.test/none:1"}}); err != nil {
		t.Errorf("RemoveImage of an unknown image: %v, want nil", err)
	}
	if fs, err := p.Runtime.Images.ImageFsInfo(t.Context(), &runtimeapi.ImageFsInfoRequest{}); err != nil || len(fs.ImageFilesystems) == 0 {
		t.Errorf("ImageFsInfo = %v, %v, want a file system", fs, err)
	}
}
