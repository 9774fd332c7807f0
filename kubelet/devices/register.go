// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package devices

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"kogge.dev/kogge/kubelet/devices/checkpoint"
)

// Names within the kubelet's folder. The checkpoint is not upstream's, whose checksum is that of a dump of Go values.
const (
	socketDir      = "device-plugins"
	socketName     = "kubelet.sock"
	checkpointName = "kogge_device_state"
)

// saved is the checkpoint.
type saved struct {
	// Resources had plugins: pods that ask for them wait for these to come back.
	Resources []string
	Grants    []savedGrant
}

// savedGrant is what one container has of one resource; Response is the plugin's answer in protobuf.
type savedGrant struct {
	Pod                 types.UID
	Container, Resource string
	IDs                 []string
	Response            []byte
}

func (d *Devices) checkpoint() string { return filepath.Join(d.config.Root, socketDir, checkpointName) }

// Load reads the checkpoint. Plugins may register from now on, until ctx ends.
func (d *Devices) Load(ctx context.Context) error {
	var s saved
	if err := checkpoint.Load(d.checkpoint(), &s); err != nil {
		return err
	}
	d.mu.Lock()
	d.ctx = ctx
	for _, name := range s.Resources {
		d.stocks[name] = &stock{away: time.Now()}
	}
	d.mu.Unlock()
	for _, g := range s.Grants {
		response := &plugin.ContainerAllocateResponse{}
		if err := proto.Unmarshal(g.Response, response); err != nil {
			return fmt.Errorf("read checkpoint of devices: %w", err)
		}
		d.give(g.Pod, g.Container, g.Resource, &grant{ids: g.IDs, response: response})
	}
	return nil
}

func (d *Devices) save() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s saved
	for name := range d.stocks {
		s.Resources = append(s.Resources, name)
	}
	slices.Sort(s.Resources)
	for pod, containers := range d.given {
		for container, resources := range containers {
			for name, g := range resources {
				response, err := proto.Marshal(g.response)
				if err != nil {
					return fmt.Errorf("write checkpoint of devices: %w", err)
				}
				s.Grants = append(s.Grants, savedGrant{Pod: pod, Container: container, Resource: name, IDs: g.ids, Response: response})
			}
		}
	}
	return checkpoint.Save(d.checkpoint(), s)
}

// registry serves the registration of plugins.
type registry struct {
	plugin.UnimplementedRegistrationServer
	d *Devices
}

// Run serves the registration socket until ctx ends. Sockets of a former kubelet's plugins are removed: by that the plugins
// notice that they have to register again.
func (d *Devices) Run(ctx context.Context) error {
	defer d.close()
	dir := filepath.Join(d.config.Root, socketDir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make folder of device plugins: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clean folder of device plugins: %w", err)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSocket != 0 {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("clean folder of device plugins: %w", err)
			}
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", filepath.Join(dir, socketName))
	if errors.Is(err, unix.EINVAL) { // the folder's name is too long for a socket: the node can do without plugins
		d.config.Logger.Warn("device plugins can't register", "err", err)
		<-ctx.Done()
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen for device plugins: %w", err)
	}
	server := grpc.NewServer()
	plugin.RegisterRegistrationServer(server, registry{d: d})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve device plugins: %w", err)
	}
	return nil
}

// close ends the connections to all plugins and waits for what follows them.
func (d *Devices) close() {
	d.mu.Lock()
	for _, s := range d.stocks {
		d.leaveLocked(s)
	}
	d.mu.Unlock()
	d.wg.Wait()
}

// Register implements the registration service.
func (r registry) Register(ctx context.Context, in *plugin.RegisterRequest) (*plugin.Empty, error) {
	if strings.ContainsRune(in.GetEndpoint(), '/') {
		return nil, fmt.Errorf("endpoint %q is not the name of a socket", in.GetEndpoint())
	}
	path := filepath.Join(r.d.config.Root, socketDir, in.GetEndpoint())
	return &plugin.Empty{}, r.d.Register(ctx, in.GetResourceName(), path, []string{in.GetVersion()})
}

// Register takes a plugin that offers a resource at a socket. A plugin that was there before is replaced.
func (d *Devices) Register(ctx context.Context, name, path string, versions []string) error {
	if !slices.Contains(versions, plugin.Version) {
		return fmt.Errorf("requested device plugin API version %q is not supported by kubelet. Supported version is %q", versions, plugin.SupportedVersions)
	}
	if !extended(name) {
		return fmt.Errorf("the ResourceName %q is invalid", name)
	}
	e, err := dial(strings.TrimPrefix(path, "unix://"))
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	options, err := e.api.GetDevicePluginOptions(asking, &plugin.Empty{})
	if err != nil {
		return errors.Join(fmt.Errorf("failed to get device plugin options: %w", err), e.conn.Close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil || d.ctx.Err() != nil {
		return errors.Join(errors.New("the kubelet does not take plugins now"), e.conn.Close())
	}
	s := d.stocks[name]
	if s == nil {
		s = &stock{}
		d.stocks[name] = s
	}
	d.leaveLocked(s)
	watching, stop := context.WithCancel(d.ctx)
	e.stop = stop
	s.endpoint, s.options = e, options
	d.wg.Go(func() { d.watch(watching, name, s, e) })
	d.config.Logger.Info("device plugin registered", "resource", name)
	return nil
}

// extended reports whether a name is that of an extended resource: in a domain that is not Kubernetes' own.
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	native := domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io")
	return ok && !native && !strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

// Unregister drops the plugin at a socket.
func (d *Devices) Unregister(name, path string) {
	d.mu.Lock()
	if s := d.stocks[name]; s != nil && s.endpoint != nil && s.endpoint.path == strings.TrimPrefix(path, "unix://") {
		d.leaveLocked(s)
	}
	d.mu.Unlock()
	d.config.Resized()
}

// leaveLocked ends the connection to a plugin.
func (d *Devices) leaveLocked(s *stock) {
	if s.endpoint == nil {
		return
	}
	s.endpoint.stop()
	if err := s.endpoint.conn.Close(); err != nil {
		d.config.Logger.Debug("connection to a device plugin", "err", err)
	}
	s.endpoint, s.away = nil, time.Now()
}

// watch follows a plugin's list of devices. Its end is the plugin's: it registers again when it comes back.
func (d *Devices) watch(ctx context.Context, name string, s *stock, e *endpoint) {
	stream, err := e.api.ListAndWatch(ctx, &plugin.Empty{})
	for err == nil {
		var list *plugin.ListAndWatchResponse
		if list, err = stream.Recv(); err == nil {
			d.listed(name, s, e, list.GetDevices())
		}
	}
	d.mu.Lock()
	mine := s.endpoint == e
	if mine {
		d.leaveLocked(s)
	}
	d.mu.Unlock()
	if !mine || ctx.Err() != nil {
		return
	}
	d.config.Logger.Warn("device plugin is gone", "resource", name, "err", err)
	d.config.Changed(d.Pods())
	d.config.Resized()
	d.mu.Lock()
	ctx = d.ctx
	d.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(awayGrace): // its devices are no capacity any more, unless it is back
		d.config.Resized()
	}
}

// listed takes in a plugin's list.
func (d *Devices) listed(name string, s *stock, e *endpoint, list []*plugin.Device) {
	d.mu.Lock()
	if s.endpoint != e {
		d.mu.Unlock()
		return
	}
	s.devices = make(map[string]*plugin.Device, len(list))
	for _, dev := range list {
		s.devices[dev.GetID()] = dev
	}
	d.mu.Unlock()
	if err := d.save(); err != nil {
		d.config.Logger.Warn("devices can't be checkpointed", "resource", name, "err", err)
	}
	d.config.Changed(d.Pods())
	d.config.Resized()
}
