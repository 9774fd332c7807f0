// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package fake is a CSI driver with real semantics for tests: volumes are folders, staging and publishing are bind mounts, every
// call is idempotent, and calls in the wrong order fail as the specification demands. It registers itself with a kubelet. The
// sanity suite of the specification's authors holds it to that (test/thirdparty/csi-sanity).
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
	"google.golang.org/grpc"
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
	// Controller serves the controller service too: volumes are made, attached to this node and grown.
	Controller bool
}

// Driver is a running driver. Its methods are safe for concurrent use.
type Driver struct {
	spec.UnimplementedNodeServer
	spec.UnimplementedIdentityServer
	spec.UnimplementedControllerServer
	registration.UnimplementedRegistrationServer
	config Config

	mu sync.Mutex
	// staged and published map paths to volume ids.
	staged, published map[string]string
	// contexts keeps the volume context of each publish, by volume id.
	contexts map[string]map[string]string
	// alone lists the volumes that one pod may have at a time, by volume id.
	alone map[string]bool
	// sizes are what the node was told a volume has grown to, in bytes.
	sizes map[string]int64
	// disks are what the controller made, by volume id.
	disks      map[string]*disk
	registered chan error
}

// New makes a driver; Run serves it.
func New(config Config) *Driver {
	return &Driver{
		config: config, staged: map[string]string{}, published: map[string]string{}, contexts: map[string]map[string]string{}, registered: make(chan error, 1),
		alone: map[string]bool{}, sizes: map[string]int64{}, disks: map[string]*disk{},
	}
}

// Registered receives the kubelet's answer to each registration: nil if it was accepted. One answer is kept.
func (d *Driver) Registered() <-chan error { return d.registered }

// Context returns the volume context that a volume was last published with, and whether it is published now.
func (d *Driver) Context(id string) (map[string]string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.contexts[id], slices.ContainsFunc(d.targetsLocked(), func(v string) bool { return v == id })
}

// Size returns what the node was last told that a volume has grown to, in bytes; 0 if it was never told.
func (d *Driver) Size(id string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sizes[id]
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
	if d.config.Controller {
		spec.RegisterControllerServer(server, d)
	}
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
