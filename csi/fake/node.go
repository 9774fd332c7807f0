// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// GetPluginInfo names the driver.
func (d *Driver) GetPluginInfo(context.Context, *spec.GetPluginInfoRequest) (*spec.GetPluginInfoResponse, error) {
	return &spec.GetPluginInfoResponse{Name: d.config.Name, VendorVersion: "1"}, nil
}

// GetPluginCapabilities says whether there is a controller.
func (d *Driver) GetPluginCapabilities(context.Context, *spec.GetPluginCapabilitiesRequest) (*spec.GetPluginCapabilitiesResponse, error) {
	out := &spec.GetPluginCapabilitiesResponse{}
	if d.config.Controller {
		out.Capabilities = append(out.Capabilities, &spec.PluginCapability{Type: &spec.PluginCapability_Service_{
			Service: &spec.PluginCapability_Service{Type: spec.PluginCapability_Service_CONTROLLER_SERVICE},
		}})
	}
	return out, nil
}

// Probe says that the driver is ready.
func (d *Driver) Probe(context.Context, *spec.ProbeRequest) (*spec.ProbeResponse, error) {
	return &spec.ProbeResponse{}, nil
}

// NodeGetCapabilities lists what the node service can do; staging may be left out.
func (d *Driver) NodeGetCapabilities(context.Context, *spec.NodeGetCapabilitiesRequest) (*spec.NodeGetCapabilitiesResponse, error) {
	all := []spec.NodeServiceCapability_RPC_Type{
		spec.NodeServiceCapability_RPC_GET_VOLUME_STATS, spec.NodeServiceCapability_RPC_EXPAND_VOLUME, spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	if !d.config.NoStaging {
		all = append(all, spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME)
	}
	out := &spec.NodeGetCapabilitiesResponse{}
	for _, one := range all {
		out.Capabilities = append(out.Capabilities, &spec.NodeServiceCapability{Type: &spec.NodeServiceCapability_Rpc{
			Rpc: &spec.NodeServiceCapability_RPC{Type: one},
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
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" || r.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "volume id, target path and capability are required")
	}
	single := r.GetVolumeCapability().GetAccessMode().GetMode() == spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	elsewhere := slices.Contains(d.targetsLocked(), r.GetVolumeId()) && d.published[r.GetTargetPath()] != r.GetVolumeId()
	if elsewhere && (single || d.alone[r.GetVolumeId()]) {
		return nil, status.Error(codes.FailedPrecondition, "volume has its one writer already")
	}
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
	d.published[r.GetTargetPath()], d.alone[r.GetVolumeId()] = r.GetVolumeId(), single
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
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id and target path are required")
	}
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
	if r.GetVolumeId() == "" || r.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id and staging path are required")
	}
	if slices.Contains(d.targetsLocked(), r.GetVolumeId()) {
		return nil, status.Error(codes.FailedPrecondition, "volume is published")
	}
	if err := unmount(r.GetStagingTargetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	delete(d.staged, r.GetStagingTargetPath())
	return &spec.NodeUnstageVolumeResponse{}, nil
}

// NodeGetVolumeStats measures the file system that the volume is a folder of.
func (d *Driver) NodeGetVolumeStats(_ context.Context, r *spec.NodeGetVolumeStatsRequest) (*spec.NodeGetVolumeStatsResponse, error) {
	if err := d.checkPath(r.GetVolumeId(), r.GetVolumePath()); err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.GetVolumePath(), &st); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	total, free := int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	return &spec.NodeGetVolumeStatsResponse{Usage: []*spec.VolumeUsage{{Unit: spec.VolumeUsage_BYTES, Total: total, Available: free, Used: total - free}}}, nil
}

// NodeExpandVolume remembers the size; a folder needs nothing.
func (d *Driver) NodeExpandVolume(_ context.Context, r *spec.NodeExpandVolumeRequest) (*spec.NodeExpandVolumeResponse, error) {
	if err := d.checkPath(r.GetVolumeId(), r.GetVolumePath()); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sizes[r.GetVolumeId()] = r.GetCapacityRange().GetRequiredBytes()
	return &spec.NodeExpandVolumeResponse{CapacityBytes: r.GetCapacityRange().GetRequiredBytes()}, nil
}

// checkPath wants a volume that is published or staged at a path.
func (d *Driver) checkPath(id, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case id == "" || path == "":
		return status.Error(codes.InvalidArgument, "volume id and path are required")
	case d.published[path] != id && d.staged[path] != id:
		return status.Errorf(codes.NotFound, "volume %s is not at %s", id, path)
	}
	return nil
}

func unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // not mounted
	}
	return err
}
