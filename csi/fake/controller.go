// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// disk is a volume that the controller made.
type disk struct {
	id string
	// size in bytes.
	size int64
	// attached is set while the disk is attached to the node.
	attached bool
}

// defaultSize is a disk's in bytes that is made without a wish.
const defaultSize = 1 << 30

// ControllerGetCapabilities lists what the controller service can do.
func (d *Driver) ControllerGetCapabilities(context.Context, *spec.ControllerGetCapabilitiesRequest) (*spec.ControllerGetCapabilitiesResponse, error) {
	out := &spec.ControllerGetCapabilitiesResponse{}
	for _, one := range []spec.ControllerServiceCapability_RPC_Type{
		spec.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, spec.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		spec.ControllerServiceCapability_RPC_EXPAND_VOLUME, spec.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		out.Capabilities = append(out.Capabilities, &spec.ControllerServiceCapability{Type: &spec.ControllerServiceCapability_Rpc{
			Rpc: &spec.ControllerServiceCapability_RPC{Type: one},
		}})
	}
	return out, nil
}

// CreateVolume makes a disk; its id is its name.
func (d *Driver) CreateVolume(_ context.Context, r *spec.CreateVolumeRequest) (*spec.CreateVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.GetName() == "" || len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "name and capabilities are required")
	}
	want := r.GetCapacityRange()
	size := want.GetRequiredBytes()
	if size == 0 {
		size = defaultSize
		if limit := want.GetLimitBytes(); limit > 0 {
			size = min(size, limit)
		}
	}
	id := "disk-" + r.GetName()
	have := d.disks[id]
	if have == nil {
		have = &disk{id: id, size: size}
		d.disks[id] = have
	} else if have.size < want.GetRequiredBytes() || want.GetLimitBytes() > 0 && have.size > want.GetLimitBytes() {
		return nil, status.Errorf(codes.AlreadyExists, "volume %s has %d bytes", r.GetName(), have.size)
	}
	return &spec.CreateVolumeResponse{Volume: &spec.Volume{
		VolumeId: id, CapacityBytes: have.size, VolumeContext: map[string]string{"name": r.GetName()},
	}}, nil
}

// DeleteVolume removes a disk that is attached nowhere; what is not there is no error.
func (d *Driver) DeleteVolume(_ context.Context, r *spec.DeleteVolumeRequest) (*spec.DeleteVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id is required")
	}
	if have := d.disks[r.GetVolumeId()]; have != nil && have.attached {
		return nil, status.Error(codes.FailedPrecondition, "volume is attached")
	}
	delete(d.disks, r.GetVolumeId())
	return &spec.DeleteVolumeResponse{}, nil
}

// ControllerPublishVolume attaches a disk to the one node.
func (d *Driver) ControllerPublishVolume(_ context.Context, r *spec.ControllerPublishVolumeRequest) (*spec.ControllerPublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	have := d.disks[r.GetVolumeId()]
	switch {
	case r.GetVolumeId() == "" || r.GetNodeId() == "" || r.GetVolumeCapability() == nil:
		return nil, status.Error(codes.InvalidArgument, "volume id, node id and capability are required")
	case have == nil:
		return nil, status.Errorf(codes.NotFound, "no volume %s", r.GetVolumeId())
	case r.GetNodeId() != d.config.NodeID:
		return nil, status.Errorf(codes.NotFound, "no node %s", r.GetNodeId())
	}
	have.attached = true
	return &spec.ControllerPublishVolumeResponse{PublishContext: map[string]string{"device": "/dev/" + have.id}}, nil
}

// ControllerUnpublishVolume detaches a disk.
func (d *Driver) ControllerUnpublishVolume(_ context.Context, r *spec.ControllerUnpublishVolumeRequest) (*spec.ControllerUnpublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id is required")
	}
	if have := d.disks[r.GetVolumeId()]; have != nil {
		have.attached = false
	}
	return &spec.ControllerUnpublishVolumeResponse{}, nil
}

// ValidateVolumeCapabilities confirms whatever is asked of a disk.
func (d *Driver) ValidateVolumeCapabilities(_ context.Context, r *spec.ValidateVolumeCapabilitiesRequest) (*spec.ValidateVolumeCapabilitiesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case r.GetVolumeId() == "" || len(r.GetVolumeCapabilities()) == 0:
		return nil, status.Error(codes.InvalidArgument, "volume id and capabilities are required")
	case d.disks[r.GetVolumeId()] == nil:
		return nil, status.Errorf(codes.NotFound, "no volume %s", r.GetVolumeId())
	}
	return &spec.ValidateVolumeCapabilitiesResponse{
		Confirmed: &spec.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.GetVolumeCapabilities()},
	}, nil
}

// ControllerExpandVolume grows a disk; the node is to be told.
func (d *Driver) ControllerExpandVolume(_ context.Context, r *spec.ControllerExpandVolumeRequest) (*spec.ControllerExpandVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	have := d.disks[r.GetVolumeId()]
	switch {
	case r.GetVolumeId() == "" || r.GetCapacityRange() == nil:
		return nil, status.Error(codes.InvalidArgument, "volume id and capacity are required")
	case have == nil:
		return nil, status.Errorf(codes.NotFound, "no volume %s", r.GetVolumeId())
	}
	have.size = max(have.size, r.GetCapacityRange().GetRequiredBytes())
	return &spec.ControllerExpandVolumeResponse{CapacityBytes: have.size, NodeExpansionRequired: true}, nil
}
