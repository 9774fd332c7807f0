// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (r runtimeService) CreateContainer(_ context.Context, in *runtimeapi.CreateContainerRequest, _ ...grpc.CallOption) (*runtimeapi.CreateContainerResponse, error) {
	if err := r.f.failure("CreateContainer"); err != nil {
		return nil, err
	}
	config := proto.CloneOf(in.GetConfig())
	if config.GetMetadata().GetName() == "" {
		return nil, status.Error(codes.Unknown, "container config must include metadata")
	}
	var behaviour Behaviour
	if r.f.config.Behave != nil {
		behaviour = r.f.config.Behave(config)
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	sandboxID, ok := find(r.f.sandboxes, in.PodSandboxId)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "failed to find sandbox id %q: not found", in.PodSandboxId)
	}
	s := r.f.sandboxes[sandboxID]
	if s.status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		return nil, status.Errorf(codes.Unknown, "failed to create container: sandbox %q is not ready", sandboxID)
	}
	for id, c := range r.f.containers {
		if c.sandboxID == sandboxID && proto.Equal(c.config.Metadata, config.Metadata) {
			return nil, status.Errorf(codes.Unknown, "failed to reserve container name %q: name is reserved for %q", config.Metadata.Name, id)
		}
	}
	image := r.f.findImageLocked(config.GetImage().GetImage())
	if image == nil {
		return nil, status.Errorf(codes.NotFound, "failed to resolve image %q: not found", config.GetImage().GetImage())
	}
	id := r.f.newIDLocked()
	c := &container{sandboxID: sandboxID, config: config, behaviour: behaviour}
	c.status = &runtimeapi.ContainerStatus{
		Id: id, Metadata: proto.CloneOf(config.Metadata), State: runtimeapi.ContainerState_CONTAINER_CREATED,
		CreatedAt: time.Now().UnixNano(), Image: proto.CloneOf(config.Image), ImageRef: image.RepoDigests[0], ImageId: image.Id,
		Labels: config.Labels, Annotations: config.Annotations, Mounts: config.Mounts,
		Resources: &runtimeapi.ContainerResources{Linux: proto.CloneOf(config.GetLinux().GetResources())},
	}
	if config.LogPath != "" && s.config.LogDirectory != "" {
		c.status.LogPath = filepath.Join(s.config.LogDirectory, config.LogPath)
	}
	r.f.containers[id] = c
	r.f.emitLocked(id, sandboxID, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func (r runtimeService) StartContainer(_ context.Context, in *runtimeapi.StartContainerRequest, _ ...grpc.CallOption) (*runtimeapi.StartContainerResponse, error) {
	if err := r.f.failure("StartContainer"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.containers, in.ContainerId)
	if !ok {
		return nil, notFound("container", in.ContainerId)
	}
	c := r.f.containers[id]
	if c.status.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.Unknown, "failed to set starting state for container %q: container is in %s state", id, c.status.State)
	}
	if s := r.f.sandboxes[c.sandboxID]; s.status.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		return nil, status.Errorf(codes.Unknown, "sandbox container %q is not running", c.sandboxID)
	}
	now := time.Now().UnixNano()
	if c.behaviour.StartError != "" {
		c.status.State = runtimeapi.ContainerState_CONTAINER_EXITED
		c.status.FinishedAt, c.status.ExitCode = now, 128
		c.status.Reason, c.status.Message = "StartError", c.behaviour.StartError
		return nil, status.Error(codes.Unknown, c.behaviour.StartError)
	}
	c.status.State, c.status.StartedAt, c.ended = runtimeapi.ContainerState_CONTAINER_RUNNING, now, make(chan struct{})
	if err := r.f.writeLog(c, c.behaviour.Output); err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	r.f.emitLocked(id, c.sandboxID, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	if c.behaviour.Ends {
		c.timer = time.AfterFunc(c.behaviour.After, func() {
			r.f.mu.Lock()
			defer r.f.mu.Unlock()
			r.f.exitLocked(c, c.behaviour.Code)
		})
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

// exitLocked ends a running process.
func (f *Runtime) exitLocked(c *container, code int32) {
	if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.status.State, c.status.FinishedAt, c.status.ExitCode = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now().UnixNano(), code
	switch {
	case c.behaviour.OOMKilled:
		c.status.Reason = "OOMKilled"
	case code == 0:
		c.status.Reason = "Completed"
	default:
		c.status.Reason = "Error"
	}
	close(c.ended)
	f.emitLocked(c.status.Id, c.sandboxID, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

func (r runtimeService) StopContainer(ctx context.Context, in *runtimeapi.StopContainerRequest, _ ...grpc.CallOption) (*runtimeapi.StopContainerResponse, error) {
	if err := r.f.failure("StopContainer"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	id, ok := find(r.f.containers, in.ContainerId)
	if !ok || r.f.containers[id].status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		r.f.mu.Unlock()
		return &runtimeapi.StopContainerResponse{}, nil
	}
	c := r.f.containers[id]
	ended := c.ended
	if in.Timeout > 0 && !c.behaviour.IgnoresStop {
		r.f.exitLocked(c, c.behaviour.StopCode)
	}
	r.f.mu.Unlock()
	if in.Timeout > 0 {
		timer := time.NewTimer(time.Duration(in.Timeout) * time.Second)
		defer timer.Stop()
		select {
		case <-ended:
			return &runtimeapi.StopContainerResponse{}, nil
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-timer.C:
		}
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.exitLocked(c, 137)
	return &runtimeapi.StopContainerResponse{}, nil
}

func (r runtimeService) RemoveContainer(_ context.Context, in *runtimeapi.RemoveContainerRequest, _ ...grpc.CallOption) (*runtimeapi.RemoveContainerResponse, error) {
	if err := r.f.failure("RemoveContainer"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if id, ok := find(r.f.containers, in.ContainerId); ok {
		r.f.removeContainerLocked(id)
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (f *Runtime) removeContainerLocked(id string) {
	c := f.containers[id]
	f.exitLocked(c, 137)
	delete(f.containers, id)
	f.emitLocked(id, c.sandboxID, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
}

func (r runtimeService) ListContainers(_ context.Context, in *runtimeapi.ListContainersRequest, _ ...grpc.CallOption) (*runtimeapi.ListContainersResponse, error) {
	if err := r.f.failure("ListContainers"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	filter := in.GetFilter()
	for id, c := range r.f.containers {
		if !strings.HasPrefix(id, filter.GetId()) || !strings.HasPrefix(c.sandboxID, filter.GetPodSandboxId()) ||
			filter.GetState() != nil && filter.State.State != c.status.State || !matches(filter.GetLabelSelector(), c.config.Labels) {
			continue
		}
		out.Containers = append(out.Containers, &runtimeapi.Container{
			Id: id, PodSandboxId: c.sandboxID, Metadata: proto.CloneOf(c.config.Metadata), Image: proto.CloneOf(c.config.Image),
			ImageRef: c.status.ImageRef, ImageId: c.status.ImageId, State: c.status.State, CreatedAt: c.status.CreatedAt,
			Labels: c.config.Labels, Annotations: c.config.Annotations,
		})
	}
	slices.SortFunc(out.Containers, func(a, b *runtimeapi.Container) int { return strings.Compare(a.Id, b.Id) })
	return out, nil
}

func (r runtimeService) ContainerStatus(_ context.Context, in *runtimeapi.ContainerStatusRequest, _ ...grpc.CallOption) (*runtimeapi.ContainerStatusResponse, error) {
	if err := r.f.failure("ContainerStatus"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.containers, in.ContainerId)
	if !ok {
		return nil, notFound("container", in.ContainerId)
	}
	return &runtimeapi.ContainerStatusResponse{Status: proto.CloneOf(r.f.containers[id].status)}, nil
}

func (r runtimeService) UpdateContainerResources(_ context.Context, in *runtimeapi.UpdateContainerResourcesRequest, _ ...grpc.CallOption) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	if err := r.f.failure("UpdateContainerResources"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.containers, in.ContainerId)
	if !ok {
		return nil, notFound("container", in.ContainerId)
	}
	c := r.f.containers[id]
	if c.status.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		return nil, status.Errorf(codes.Unknown, "failed to update resources: container %q is not running", id)
	}
	if c.status.Resources.Linux == nil {
		c.status.Resources.Linux = &runtimeapi.LinuxContainerResources{}
	}
	proto.Merge(c.status.Resources.Linux, in.GetLinux())
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

func (r runtimeService) ReopenContainerLog(_ context.Context, in *runtimeapi.ReopenContainerLogRequest, _ ...grpc.CallOption) (*runtimeapi.ReopenContainerLogResponse, error) {
	if err := r.f.failure("ReopenContainerLog"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.containers, in.ContainerId)
	if !ok {
		return nil, notFound("container", in.ContainerId)
	}
	if r.f.containers[id].status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Error(codes.Unknown, "container is not running")
	}
	return &runtimeapi.ReopenContainerLogResponse{}, r.f.writeLog(r.f.containers[id], "")
}

// Output appends text to the log of a container.
func (f *Runtime) Output(containerID, text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.containers[containerID]
	if !ok {
		return notFound("container", containerID)
	}
	return f.writeLog(c, text)
}

// writeLog appends text, line by line, to the container's log in CRI's format, and creates the file if it is not there.
func (f *Runtime) writeLog(c *container, text string) error {
	if !f.config.WriteLogs || c.status.LogPath == "" {
		return nil
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		tag := "F"
		if !strings.HasSuffix(line, "\n") {
			tag = "P"
		}
		fmt.Fprintf(&out, "%s stdout %s %s\n", time.Now().Format(time.RFC3339Nano), tag, strings.TrimSuffix(line, "\n"))
	}
	file, err := os.OpenFile(c.status.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("write container log: %w", err)
	}
	defer file.Close()
	if _, err := file.WriteString(out.String()); err != nil {
		return fmt.Errorf("write container log: %w", err)
	}
	return nil
}
