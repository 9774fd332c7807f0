// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package fake is a CSI driver with real semantics for tests: volumes are folders, staging and publishing are bind mounts, every
// call is idempotent, and calls in the wrong order fail as the specification demands. It registers itself with a kubelet.
package fake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Config says what the driver is like.
type Config struct {
	// Name of the driver, and NodeID of the node in its terms. Required.
	Name, NodeID string
	// Dir holds volumes and the driver's socket. Required.
	Dir string
	// Topology of the node.
	Topology map[string]string
	// NoStaging leaves out the staging step.
	NoStaging bool
}

// Driver is a running driver. Its methods are safe for concurrent use.
type Driver struct {
	spec.UnimplementedNodeServer
	spec.UnimplementedIdentityServer
	registration.UnimplementedRegistrationServer
	config Config

	mu sync.Mutex
	// staged and published map paths to volume ids.
	staged, published map[string]string
	// contexts keeps the volume context of each publish, by volume id.
	contexts   map[string]map[string]string
	registered chan error
}

// New makes a driver; Run serves it.
func New(config Config) *Driver {
	return &Driver{config: config, staged: map[string]string{}, published: map[string]string{}, contexts: map[string]map[string]string{}, registered: make(chan error, 1)}
}

// Registered receives the kubelet's answer to each registration: nil if it was accepted. One answer is kept.
func (d *Driver) Registered() <-chan error { return d.registered }

// Context returns the volume context that a volume was last published with, and whether it is published now.
func (d *Driver) Context(id string) (map[string]string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.contexts[id], slices.ContainsFunc(d.targetsLocked(), func(v string) bool { return v == id })
}

// Published and Staged count what is mounted now.
func (d *Driver) Published() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.published)
}

// Staged counts staged volumes.
func (d *Driver) Staged() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.staged)
}

func (d *Driver) targetsLocked() []string {
	out := make([]string, 0, len(d.published))
	for _, id := range d.published {
		out = append(out, id)
	}
	return out
}

// Run serves the driver and offers it in a kubelet's registration folder until ctx ends.
func (d *Driver) Run(ctx context.Context, registry string) error {
	socket := filepath.Join(d.config.Dir, "csi.sock")
	offer := filepath.Join(registry, d.config.Name+"-reg.sock")
	driver, err := listen(ctx, socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	spec.RegisterNodeServer(server, d)
	spec.RegisterIdentityServer(server, d)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { server.Serve(driver) }) //nolint:errcheck // ends with Stop
	defer server.Stop()
	registrar, err := listen(ctx, offer)
	if err != nil {
		return err
	}
	offering := grpc.NewServer()
	registration.RegisterRegistrationServer(offering, d)
	wg.Go(func() { offering.Serve(registrar) }) //nolint:errcheck // ends with Stop
	defer offering.Stop()
	<-ctx.Done()
	return nil
}

func listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	return l, nil
}

// GetInfo offers the driver.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: d.config.Name, Endpoint: filepath.Join(d.config.Dir, "csi.sock"), SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus takes the kubelet's answer.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	var err error
	if !s.GetPluginRegistered() {
		err = errors.New(s.GetError())
	}
	select {
	case d.registered <- err:
	default:
	}
	return &registration.RegistrationStatusResponse{}, nil
}

// GetPluginInfo names the driver.
func (d *Driver) GetPluginInfo(context.Context, *spec.GetPluginInfoRequest) (*spec.GetPluginInfoResponse, error) {
	return &spec.GetPluginInfoResponse{Name: d.config.Name, VendorVersion: "1"}, nil
}

// NodeGetCapabilities lists staging unless it is left out.
func (d *Driver) NodeGetCapabilities(context.Context, *spec.NodeGetCapabilitiesRequest) (*spec.NodeGetCapabilitiesResponse, error) {
	out := &spec.NodeGetCapabilitiesResponse{}
	if !d.config.NoStaging {
		out.Capabilities = append(out.Capabilities, &spec.NodeServiceCapability{Type: &spec.NodeServiceCapability_Rpc{
			Rpc: &spec.NodeServiceCapability_RPC{Type: spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME},
		}})
	}
	return out, nil
}

// NodeGetInfo says where the node is.
func (d *Driver) NodeGetInfo(context.Context, *spec.NodeGetInfoRequest) (*spec.NodeGetInfoResponse, error) {
	return &spec.NodeGetInfoResponse{NodeId: d.config.NodeID, MaxVolumesPerNode: 7, AccessibleTopology: &spec.Topology{Segments: d.config.Topology}}, nil
}

// NodeStageVolume mounts the volume's folder at its staging path.
func (d *Driver) NodeStageVolume(_ context.Context, r *spec.NodeStageVolumeRequest) (*spec.NodeStageVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.GetVolumeId() == "" || r.GetStagingTargetPath() == "" || r.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "volume id, staging path and capability are required")
	}
	if id, ok := d.staged[r.GetStagingTargetPath()]; ok && id == r.GetVolumeId() {
		return &spec.NodeStageVolumeResponse{}, nil
	}
	if err := d.mount(r.GetVolumeId(), r.GetStagingTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	d.staged[r.GetStagingTargetPath()] = r.GetVolumeId()
	return &spec.NodeStageVolumeResponse{}, nil
}

// NodePublishVolume mounts the volume's folder at its target, which it makes.
func (d *Driver) NodePublishVolume(_ context.Context, r *spec.NodePublishVolumeRequest) (*spec.NodePublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.config.NoStaging && r.GetVolumeContext()["csi.storage.k8s.io/ephemeral"] != "true" && d.staged[r.GetStagingTargetPath()] != r.GetVolumeId() {
		return nil, status.Error(codes.FailedPrecondition, "volume is not staged")
	}
	d.contexts[r.GetVolumeId()] = r.GetVolumeContext()
	if d.published[r.GetTargetPath()] == r.GetVolumeId() {
		return &spec.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(r.GetTargetPath(), 0o755); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := d.mount(r.GetVolumeId(), r.GetTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	d.published[r.GetTargetPath()] = r.GetVolumeId()
	return &spec.NodePublishVolumeResponse{}, nil
}

func (d *Driver) mount(id, target string) error {
	source := filepath.Join(d.config.Dir, "volumes", filepath.Base(id))
	if err := os.MkdirAll(source, 0o755); err != nil {
		return err
	}
	return unix.Mount(source, target, "", unix.MS_BIND, "")
}

// NodeUnpublishVolume unmounts and removes the target.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *spec.NodeUnpublishVolumeRequest) (*spec.NodeUnpublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := unmount(r.GetTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	delete(d.published, r.GetTargetPath())
	if err := os.Remove(r.GetTargetPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &spec.NodeUnpublishVolumeResponse{}, nil
}

// NodeUnstageVolume unmounts the staging path, which stays. A volume that is published still can't be unstaged.
func (d *Driver) NodeUnstageVolume(_ context.Context, r *spec.NodeUnstageVolumeRequest) (*spec.NodeUnstageVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.targetsLocked(), r.GetVolumeId()) {
		return nil, status.Error(codes.FailedPrecondition, "volume is published")
	}
	if err := unmount(r.GetStagingTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	delete(d.staged, r.GetStagingTargetPath())
	return &spec.NodeUnstageVolumeResponse{}, nil
}

func unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // not mounted
	}
	return err
}
