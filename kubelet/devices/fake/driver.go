// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package fake has a DRA driver and a device plugin that speak to a kubelet as real ones do, for tests.
package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Driver is a DRA driver that gives every claim the device gpu0 of the pool n1, under the CDI name example.com/gpu=<claim>.
type Driver struct {
	dra.UnimplementedDRAPluginServer
	registration.UnimplementedRegistrationServer
	name, socket string
	registered   chan error
	listening    chan struct{} // closed once it does

	mu       sync.Mutex
	prepared map[string]int
	refusal  string
}

// NewDriver makes a driver whose sockets lie in dir, which must have a short name.
func NewDriver(name, dir string) *Driver {
	return &Driver{name: name, socket: filepath.Join(dir, name+".sock"), registered: make(chan error, 1), listening: make(chan struct{}), prepared: map[string]int{}}
}

// Socket is where the driver listens.
func (d *Driver) Socket() string { return d.socket }

// Listening is closed once the driver can be called.
func (d *Driver) Listening() <-chan struct{} { return d.listening }

// Registered receives the kubelet's answer to the registration: nil if it takes the driver.
func (d *Driver) Registered() <-chan error { return d.registered }

// Prepared returns how often each claim was prepared since it was last unprepared, by name.
func (d *Driver) Prepared() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.prepared)
}

// Refuse makes preparation fail with a message; empty ends that.
func (d *Driver) Refuse(message string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusal = message
}

// Run serves the driver until ctx ends, once, and offers it in a kubelet's registration folder if that is not empty.
func (d *Driver) Run(ctx context.Context, registry string) error {
	server := grpc.NewServer()
	dra.RegisterDRAPluginServer(server, d)
	stop, err := serve(ctx, server, d.socket)
	if err != nil {
		return err
	}
	defer stop()
	close(d.listening)
	if registry != "" {
		offer := grpc.NewServer()
		registration.RegisterRegistrationServer(offer, d)
		stop, err := serve(ctx, offer, filepath.Join(registry, d.name+"-reg.sock"))
		if err != nil {
			return err
		}
		defer stop()
	}
	<-ctx.Done()
	return nil
}

// serve runs a server on a socket until the returned function is called, which waits for its end.
func serve(ctx context.Context, server *grpc.Server, socket string) (func(), error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l) }) //nolint:errcheck // ends with Stop
	return func() { server.Stop(); wg.Wait() }, nil
}

// GetInfo offers the driver.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.DRAPlugin, Name: d.name, Endpoint: d.socket, SupportedVersions: []string{dra.DRAPluginService},
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

// NodePrepareResources gives each claim the device.
func (d *Driver) NodePrepareResources(_ context.Context, in *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for _, c := range in.GetClaims() {
		answer := &dra.NodePrepareResourceResponse{Error: d.refusal}
		if d.refusal == "" {
			d.prepared[c.GetName()]++
			answer.Devices = []*dra.Device{{RequestNames: []string{"r"}, PoolName: "n1", DeviceName: "gpu0", CdiDeviceIds: []string{"example.com/gpu=" + c.GetName()}}}
		}
		out.Claims[c.GetUid()] = answer
	}
	return out, nil
}

// NodeUnprepareResources forgets the claims.
func (d *Driver) NodeUnprepareResources(_ context.Context, in *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for _, c := range in.GetClaims() {
		delete(d.prepared, c.GetName())
		out.Claims[c.GetUid()] = &dra.NodeUnprepareResourceResponse{}
	}
	return out, nil
}
