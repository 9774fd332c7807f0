// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Plugin is a device plugin. A container gets each of its devices as /dev/<id>, a mount, and their ids in the environment
// variable DEVICES. The plugin prefers the devices with the highest ids, and wants to know of every start.
type Plugin struct {
	plugin.UnimplementedDevicePluginServer
	resource, dir, name string

	mu      sync.Mutex
	devices []*plugin.Device
	changed chan struct{} // closed and replaced at every change
	started [][]string
}

// NewPlugin makes a plugin with healthy devices. Dir is the kubelet's folder of device plugins.
func NewPlugin(resource, dir, name string, ids ...string) *Plugin {
	p := &Plugin{resource: resource, dir: dir, name: name, changed: make(chan struct{})}
	for _, id := range ids {
		p.devices = append(p.devices, &plugin.Device{ID: id, Health: plugin.Healthy, Topology: &plugin.TopologyInfo{Nodes: []*plugin.NUMANode{{ID: 0}}}})
	}
	return p
}

// Break makes a device unhealthy.
func (p *Plugin) Break(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices = slices.Clone(p.devices)
	for i, d := range p.devices {
		if d.GetID() == id {
			p.devices[i] = &plugin.Device{ID: id, Health: plugin.Unhealthy}
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Started lists the devices of every start so far.
func (p *Plugin) Started() [][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.started)
}

// Run serves the plugin and registers it at the kubelet's socket, then waits for ctx to end.
func (p *Plugin) Run(ctx context.Context) error {
	server := grpc.NewServer()
	plugin.RegisterDevicePluginServer(server, p)
	stop, err := serve(ctx, server, filepath.Join(p.dir, p.name))
	if err != nil {
		return err
	}
	defer stop()
	kubelet := filepath.Join(p.dir, "kubelet.sock")
	conn, err := grpc.NewClient("passthrough:///"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", kubelet)
		}))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the answer is all that counts
	request := &plugin.RegisterRequest{Version: plugin.Version, Endpoint: p.name, ResourceName: p.resource}
	if _, err := plugin.NewRegistrationClient(conn).Register(ctx, request); err != nil {
		return fmt.Errorf("register device plugin: %w", err)
	}
	<-ctx.Done()
	return nil
}

// GetDevicePluginOptions asks to be asked about everything.
func (p *Plugin) GetDevicePluginOptions(context.Context, *plugin.Empty) (*plugin.DevicePluginOptions, error) {
	return &plugin.DevicePluginOptions{PreStartRequired: true, GetPreferredAllocationAvailable: true}, nil
}

// ListAndWatch sends the devices at every change.
func (p *Plugin) ListAndWatch(_ *plugin.Empty, stream grpc.ServerStreamingServer[plugin.ListAndWatchResponse]) error {
	for {
		p.mu.Lock()
		devices, changed := p.devices, p.changed
		p.mu.Unlock()
		if err := stream.Send(&plugin.ListAndWatchResponse{Devices: devices}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// GetPreferredAllocation prefers the highest ids.
func (p *Plugin) GetPreferredAllocation(_ context.Context, in *plugin.PreferredAllocationRequest) (*plugin.PreferredAllocationResponse, error) {
	out := &plugin.PreferredAllocationResponse{}
	for _, r := range in.GetContainerRequests() {
		ids := slices.Sorted(slices.Values(r.GetAvailableDeviceIDs()))
		slices.Reverse(ids)
		out.ContainerResponses = append(out.ContainerResponses, &plugin.ContainerPreferredAllocationResponse{DeviceIDs: ids[:r.GetAllocationSize()]})
	}
	return out, nil
}

// Allocate says what a container needs.
func (p *Plugin) Allocate(_ context.Context, in *plugin.AllocateRequest) (*plugin.AllocateResponse, error) {
	out := &plugin.AllocateResponse{}
	for _, r := range in.GetContainerRequests() {
		one := &plugin.ContainerAllocateResponse{
			Envs: map[string]string{"DEVICES": fmt.Sprint(r.GetDevicesIds())}, Annotations: map[string]string{"example.com/devices": fmt.Sprint(r.GetDevicesIds())},
			Mounts: []*plugin.Mount{{ContainerPath: "/lib/driver", HostPath: "/lib", ReadOnly: true}},
		}
		for _, id := range r.GetDevicesIds() {
			one.Devices = append(one.Devices, &plugin.DeviceSpec{ContainerPath: "/dev/" + id, HostPath: "/dev/null", Permissions: "rw"})
			one.CdiDevices = append(one.CdiDevices, &plugin.CDIDevice{Name: p.resource + "=" + id})
		}
		out.ContainerResponses = append(out.ContainerResponses, one)
	}
	return out, nil
}

// PreStartContainer notes a start.
func (p *Plugin) PreStartContainer(_ context.Context, in *plugin.PreStartContainerRequest) (*plugin.PreStartContainerResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = append(p.started, in.GetDevicesIds())
	return &plugin.PreStartContainerResponse{}, nil
}
