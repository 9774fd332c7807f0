// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// running returns the configuration of a running container.
func (f *Runtime) running(id string) (*runtimeapi.ContainerConfig, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	full, ok := find(f.containers, id)
	if !ok {
		return nil, notFound("container", id)
	}
	if f.containers[full].status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.Unknown, "container is in %s state", f.containers[full].status.State)
	}
	return f.containers[full].config, nil
}

func (r runtimeService) ExecSync(_ context.Context, in *runtimeapi.ExecSyncRequest, _ ...grpc.CallOption) (*runtimeapi.ExecSyncResponse, error) {
	if err := r.f.failure("ExecSync"); err != nil {
		return nil, err
	}
	config, err := r.f.running(in.ContainerId)
	if err != nil {
		return nil, err
	}
	if r.f.config.Exec == nil {
		return &runtimeapi.ExecSyncResponse{}, nil
	}
	stdout, stderr, code := r.f.config.Exec(proto.CloneOf(config), in.Cmd)
	return &runtimeapi.ExecSyncResponse{Stdout: []byte(stdout), Stderr: []byte(stderr), ExitCode: code}, nil
}

// url answers the three streaming calls.
func (r runtimeService) url(method, id string) (string, error) {
	if err := r.f.failure(method); err != nil {
		return "", err
	}
	if r.f.config.StreamURL == nil {
		return "", status.Errorf(codes.Unimplemented, "%s is not implemented by this fake", method)
	}
	return r.f.config.StreamURL(strings.ToLower(method), id), nil
}

func (r runtimeService) Exec(_ context.Context, in *runtimeapi.ExecRequest, _ ...grpc.CallOption) (*runtimeapi.ExecResponse, error) {
	if _, err := r.f.running(in.ContainerId); err != nil {
		return nil, err
	}
	url, err := r.url("Exec", in.ContainerId)
	return &runtimeapi.ExecResponse{Url: url}, err
}

func (r runtimeService) Attach(_ context.Context, in *runtimeapi.AttachRequest, _ ...grpc.CallOption) (*runtimeapi.AttachResponse, error) {
	if _, err := r.f.running(in.ContainerId); err != nil {
		return nil, err
	}
	url, err := r.url("Attach", in.ContainerId)
	return &runtimeapi.AttachResponse{Url: url}, err
}

func (r runtimeService) PortForward(_ context.Context, in *runtimeapi.PortForwardRequest, _ ...grpc.CallOption) (*runtimeapi.PortForwardResponse, error) {
	url, err := r.url("PortForward", in.PodSandboxId)
	return &runtimeapi.PortForwardResponse{Url: url}, err
}

// statsLocked is what SetStats said, with the attributes filled in, or zero usage.
func (c *container) statsLocked() *runtimeapi.ContainerStats {
	out := &runtimeapi.ContainerStats{}
	if c.stats != nil {
		out = proto.CloneOf(c.stats)
	}
	now := time.Now().UnixNano()
	out.Attributes = &runtimeapi.ContainerAttributes{
		Id: c.status.Id, Metadata: proto.CloneOf(c.config.Metadata), Labels: c.config.Labels, Annotations: c.config.Annotations,
	}
	if out.Cpu == nil {
		out.Cpu = &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{}}
	}
	if out.Memory == nil {
		out.Memory = &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: &runtimeapi.UInt64Value{}}
	}
	return out
}

func (r runtimeService) ContainerStats(_ context.Context, in *runtimeapi.ContainerStatsRequest, _ ...grpc.CallOption) (*runtimeapi.ContainerStatsResponse, error) {
	if err := r.f.failure("ContainerStats"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.containers, in.ContainerId)
	if !ok {
		return nil, notFound("container", in.ContainerId)
	}
	return &runtimeapi.ContainerStatsResponse{Stats: r.f.containers[id].statsLocked()}, nil
}

func (r runtimeService) ListContainerStats(_ context.Context, in *runtimeapi.ListContainerStatsRequest, _ ...grpc.CallOption) (*runtimeapi.ListContainerStatsResponse, error) {
	if err := r.f.failure("ListContainerStats"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	out := &runtimeapi.ListContainerStatsResponse{}
	filter := in.GetFilter()
	for id, c := range r.f.containers {
		if c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING && strings.HasPrefix(id, filter.GetId()) &&
			strings.HasPrefix(c.sandboxID, filter.GetPodSandboxId()) && matches(filter.GetLabelSelector(), c.config.Labels) {
			out.Stats = append(out.Stats, c.statsLocked())
		}
	}
	return out, nil
}

// podStatsLocked gathers the statistics of one sandbox.
func (f *Runtime) podStatsLocked(id string) *runtimeapi.PodSandboxStats {
	s := f.sandboxes[id]
	out := &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: id, Metadata: proto.CloneOf(s.config.Metadata), Labels: s.config.Labels, Annotations: s.config.Annotations},
		Linux:      &runtimeapi.LinuxPodSandboxStats{},
	}
	for _, c := range f.containers {
		if c.sandboxID == id && c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			out.Linux.Containers = append(out.Linux.Containers, c.statsLocked())
		}
	}
	return out
}

func (r runtimeService) PodSandboxStats(_ context.Context, in *runtimeapi.PodSandboxStatsRequest, _ ...grpc.CallOption) (*runtimeapi.PodSandboxStatsResponse, error) {
	if err := r.f.failure("PodSandboxStats"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.sandboxes, in.PodSandboxId)
	if !ok {
		return nil, notFound("sandbox", in.PodSandboxId)
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: r.f.podStatsLocked(id)}, nil
}

func (r runtimeService) ListPodSandboxStats(_ context.Context, in *runtimeapi.ListPodSandboxStatsRequest, _ ...grpc.CallOption) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	if err := r.f.failure("ListPodSandboxStats"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	out := &runtimeapi.ListPodSandboxStatsResponse{}
	filter := in.GetFilter()
	for id, s := range r.f.sandboxes {
		if s.status.State == runtimeapi.PodSandboxState_SANDBOX_READY && strings.HasPrefix(id, filter.GetId()) && matches(filter.GetLabelSelector(), s.config.Labels) {
			out.Stats = append(out.Stats, r.f.podStatsLocked(id))
		}
	}
	return out, nil
}
