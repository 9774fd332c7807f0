// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package csi is the node's side of the Container Storage Interface: a client of one driver's node service over its socket.
// Package csi/fake is a driver with real semantics for tests.
package csi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// callTimeout bounds one call to a driver, as upstream's kubelet does.
const callTimeout = 2 * time.Minute

// Driver is a connection to one driver. It is safe for concurrent use.
type Driver struct {
	// Name is what the driver registered as.
	Name string

	conn     *grpc.ClientConn
	node     spec.NodeClient
	identity spec.IdentityClient
	// abilities are the node service's capabilities, read once when connected.
	abilities []spec.NodeServiceCapability_RPC_Type
}

// Connect opens a driver's socket, an absolute path, and asks what it can do.
func Connect(ctx context.Context, name, socket string) (*Driver, error) {
	path := strings.TrimPrefix(socket, "unix://")
	conn, err := grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect csi driver %s at %s: %w", name, path, err)
	}
	d := &Driver{Name: name, conn: conn, node: spec.NewNodeClient(conn), identity: spec.NewIdentityClient(conn)}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := d.node.NodeGetCapabilities(ctx, &spec.NodeGetCapabilitiesRequest{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask capabilities of csi driver %s: %w", name, err), conn.Close())
	}
	for _, c := range answer.GetCapabilities() {
		d.abilities = append(d.abilities, c.GetRpc().GetType())
	}
	return d, nil
}

// Close releases the connection.
func (d *Driver) Close() error { return d.conn.Close() }

// Can reports whether the driver's node service has a capability.
func (d *Driver) Can(ability spec.NodeServiceCapability_RPC_Type) bool {
	return slices.Contains(d.abilities, ability)
}

// Info is what a driver says about itself on this node.
type Info struct {
	NodeID string
	// MaxVolumes is zero without a limit.
	MaxVolumes int64
	// Topology are the segments that the node lies in.
	Topology map[string]string
}

// Info asks for the node's identity in the driver's terms.
func (d *Driver) Info(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := d.node.NodeGetInfo(ctx, &spec.NodeGetInfoRequest{})
	if err != nil {
		return Info{}, fmt.Errorf("ask node info of csi driver %s: %w", d.Name, err)
	}
	return Info{NodeID: r.GetNodeId(), MaxVolumes: r.GetMaxVolumesPerNode(), Topology: r.GetAccessibleTopology().GetSegments()}, nil
}

// Volume is what staging and publishing a volume need to know.
type Volume struct {
	ID string
	// Staging is the node-wide path, Target the pod's.
	Staging, Target string
	// Block is set for volumes without file system.
	Block    bool
	FSType   string
	Options  []string
	ReadOnly bool
	// Group is passed to drivers that apply it themselves.
	Group string
	// Mode is the access mode.
	Mode spec.VolumeCapability_AccessMode_Mode
	// Publish comes from the controller's attachment, Attributes from the volume, Secrets from the secrets that it names.
	Publish, Attributes, Secrets map[string]string
}

func (v *Volume) capability() *spec.VolumeCapability {
	c := &spec.VolumeCapability{AccessMode: &spec.VolumeCapability_AccessMode{Mode: v.Mode}}
	if v.Block {
		c.AccessType = &spec.VolumeCapability_Block{Block: &spec.VolumeCapability_BlockVolume{}}
		return c
	}
	c.AccessType = &spec.VolumeCapability_Mount{Mount: &spec.VolumeCapability_MountVolume{
		FsType: v.FSType, MountFlags: v.Options, VolumeMountGroup: v.Group,
	}}
	return c
}

// Stage makes the volume ready on the node; drivers that have no such step succeed at once.
func (d *Driver) Stage(ctx context.Context, v *Volume) error {
	if !d.Can(spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := d.node.NodeStageVolume(ctx, &spec.NodeStageVolumeRequest{
		VolumeId: v.ID, PublishContext: v.Publish, StagingTargetPath: v.Staging, VolumeCapability: v.capability(), Secrets: v.Secrets, VolumeContext: v.Attributes,
	})
	return err
}

// Publish makes the volume appear at its target.
func (d *Driver) Publish(ctx context.Context, v *Volume) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := &spec.NodePublishVolumeRequest{
		VolumeId: v.ID, PublishContext: v.Publish, TargetPath: v.Target, VolumeCapability: v.capability(), Readonly: v.ReadOnly, Secrets: v.Secrets,
		VolumeContext: v.Attributes,
	}
	if d.Can(spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME) {
		r.StagingTargetPath = v.Staging
	}
	_, err := d.node.NodePublishVolume(ctx, r)
	return err
}

// Unpublish takes the volume from its target; what is not there is no error.
func (d *Driver) Unpublish(ctx context.Context, id, target string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := d.node.NodeUnpublishVolume(ctx, &spec.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
	return ignoreNotFound(err)
}

// Unstage undoes Stage once no pod uses the volume any more.
func (d *Driver) Unstage(ctx context.Context, id, staging string) error {
	if !d.Can(spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := d.node.NodeUnstageVolume(ctx, &spec.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
	return ignoreNotFound(err)
}

// Expand tells the driver that the volume has grown.
func (d *Driver) Expand(ctx context.Context, v *Volume, bytes int64) error {
	if !d.Can(spec.NodeServiceCapability_RPC_EXPAND_VOLUME) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := d.node.NodeExpandVolume(ctx, &spec.NodeExpandVolumeRequest{
		VolumeId: v.ID, VolumePath: v.Target, StagingTargetPath: v.Staging, CapacityRange: &spec.CapacityRange{RequiredBytes: bytes},
		VolumeCapability: v.capability(), Secrets: v.Secrets,
	})
	return err
}

// Stats asks for a volume's use in bytes and inodes; ok is false if the driver can't say.
func (d *Driver) Stats(ctx context.Context, id, path string) (usage []*spec.VolumeUsage, ok bool, err error) {
	if !d.Can(spec.NodeServiceCapability_RPC_GET_VOLUME_STATS) {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := d.node.NodeGetVolumeStats(ctx, &spec.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: path})
	if err != nil {
		return nil, false, err
	}
	return r.GetUsage(), true, nil
}

func ignoreNotFound(err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}
