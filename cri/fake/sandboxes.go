// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runtimeService is the client side of the RuntimeService.
type runtimeService struct{ f *Runtime }

var _ runtimeapi.RuntimeServiceClient = runtimeService{}

func (r runtimeService) Version(context.Context, *runtimeapi.VersionRequest, ...grpc.CallOption) (*runtimeapi.VersionResponse, error) {
	if err := r.f.failure("Version"); err != nil {
		return nil, err
	}
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "fake", RuntimeVersion: "v1.0.0", RuntimeApiVersion: "v1"}, nil
}

func (r runtimeService) Status(context.Context, *runtimeapi.StatusRequest, ...grpc.CallOption) (*runtimeapi.StatusResponse, error) {
	if err := r.f.failure("Status"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: r.f.notReady == ""}
	if !network.Status {
		network.Reason, network.Message = "NetworkPluginNotReady", r.f.notReady
	}
	return &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{{Type: runtimeapi.RuntimeReady, Status: true}, network}},
		RuntimeHandlers: []*runtimeapi.RuntimeHandler{
			{Name: "", Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true, UserNamespaces: true}},
			{Name: "runc", Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true, UserNamespaces: true}},
		},
	}, nil
}

func (r runtimeService) UpdateRuntimeConfig(context.Context, *runtimeapi.UpdateRuntimeConfigRequest, ...grpc.CallOption) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	return &runtimeapi.UpdateRuntimeConfigResponse{}, r.f.failure("UpdateRuntimeConfig")
}

func (r runtimeService) RunPodSandbox(_ context.Context, in *runtimeapi.RunPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.RunPodSandboxResponse, error) {
	if err := r.f.failure("RunPodSandbox"); err != nil {
		return nil, err
	}
	meta := in.GetConfig().GetMetadata()
	if meta.GetName() == "" {
		return nil, status.Error(codes.Unknown, "sandbox config must include metadata")
	}
	if h := in.RuntimeHandler; h != "" && h != "runc" {
		return nil, status.Errorf(codes.Unknown, "no runtime for %q is configured", h)
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	for id, s := range r.f.sandboxes {
		if proto.Equal(s.config.Metadata, meta) {
			return nil, status.Errorf(codes.Unknown, "failed to reserve sandbox name %q: name is reserved for %q", sandboxName(meta), id)
		}
	}
	id := r.f.newIDLocked()
	s := &sandbox{config: proto.CloneOf(in.Config)}
	namespaces := in.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	s.status = &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: proto.CloneOf(meta), State: runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: time.Now().UnixNano(),
		Labels: s.config.Labels, Annotations: s.config.Annotations, RuntimeHandler: in.RuntimeHandler,
		Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux:   &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: proto.CloneOf(namespaces)}},
	}
	if namespaces.GetNetwork() != runtimeapi.NamespaceMode_NODE {
		r.f.nextAddress = r.f.nextAddress.Next()
		s.status.Network.Ip = r.f.nextAddress.String()
	}
	r.f.sandboxes[id] = s
	r.f.emitLocked(id, id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	r.f.emitLocked(id, id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func sandboxName(m *runtimeapi.PodSandboxMetadata) string {
	return strings.Join([]string{m.Name, m.Namespace, m.Uid}, "_")
}

func (r runtimeService) StopPodSandbox(_ context.Context, in *runtimeapi.StopPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.StopPodSandboxResponse, error) {
	if err := r.f.failure("StopPodSandbox"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if id, ok := find(r.f.sandboxes, in.PodSandboxId); ok {
		r.f.stopSandboxLocked(id)
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// stopSandboxLocked kills what runs in the sandbox and ends it; it is idempotent.
func (f *Runtime) stopSandboxLocked(id string) {
	for _, c := range f.containers {
		if c.sandboxID == id && c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			f.exitLocked(c, 137)
		}
	}
	s := f.sandboxes[id]
	// The network is gone with the sandbox; CRI reports no address afterwards.
	s.status.Network.Ip = ""
	if s.status.State == runtimeapi.PodSandboxState_SANDBOX_READY {
		s.status.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
		f.emitLocked(id, id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	}
}

func (r runtimeService) RemovePodSandbox(_ context.Context, in *runtimeapi.RemovePodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.RemovePodSandboxResponse, error) {
	if err := r.f.failure("RemovePodSandbox"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.sandboxes, in.PodSandboxId)
	if !ok {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	r.f.stopSandboxLocked(id)
	for cid, c := range r.f.containers {
		if c.sandboxID == id {
			r.f.removeContainerLocked(cid)
		}
	}
	r.f.emitLocked(id, id, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	delete(r.f.sandboxes, id)
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (r runtimeService) PodSandboxStatus(_ context.Context, in *runtimeapi.PodSandboxStatusRequest, _ ...grpc.CallOption) (*runtimeapi.PodSandboxStatusResponse, error) {
	if err := r.f.failure("PodSandboxStatus"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	id, ok := find(r.f.sandboxes, in.PodSandboxId)
	if !ok {
		return nil, notFound("sandbox", in.PodSandboxId)
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: proto.CloneOf(r.f.sandboxes[id].status)}, nil
}

func (r runtimeService) ListPodSandbox(_ context.Context, in *runtimeapi.ListPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.ListPodSandboxResponse, error) {
	if err := r.f.failure("ListPodSandbox"); err != nil {
		return nil, err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	for id, s := range r.f.sandboxes {
		filter := in.GetFilter()
		if !strings.HasPrefix(id, filter.GetId()) || filter.GetState() != nil && filter.State.State != s.status.State ||
			!matches(filter.GetLabelSelector(), s.config.Labels) {
			continue
		}
		out.Items = append(out.Items, &runtimeapi.PodSandbox{
			Id: id, Metadata: proto.CloneOf(s.config.Metadata), State: s.status.State, CreatedAt: s.status.CreatedAt,
			Labels: s.config.Labels, Annotations: s.config.Annotations, RuntimeHandler: s.status.RuntimeHandler,
		})
	}
	slices.SortFunc(out.Items, func(a, b *runtimeapi.PodSandbox) int { return strings.Compare(a.Id, b.Id) })
	return out, nil
}

// find resolves an identifier or an unambiguous prefix of one.
func find[T any](all map[string]T, id string) (string, bool) {
	if _, ok := all[id]; ok {
		return id, true
	}
	found := ""
	for full := range all {
		if id != "" && strings.HasPrefix(full, id) {
			if found != "" {
				return "", false
			}
			found = full
		}
	}
	return found, found != ""
}

func notFound(kind, id string) error {
	return status.Errorf(codes.NotFound, "an error occurred when try to find %s %q: not found", kind, id)
}

// matches reports whether labels hold every pair of selector.
func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
