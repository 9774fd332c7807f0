// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command csi-mock runs the mock CSI driver of Kubernetes' own end-to-end suite as a program, and registers it with a kubelet:
//
//	csi-mock -name NAME -endpoint SOCKET -host-endpoint PATH -registration SOCKET -data DIR
//
// The driver is theirs; the mock keeps volumes in memory and mounts nothing, so the file operations that it takes from
// outside are ours: a published volume is a bind mount of a folder that is named after its PersistentVolume.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/mock/service"
)

func main() {
	name := flag.String("name", "mock.csi.example", "name of the driver")
	endpoint := flag.String("endpoint", "/csi/csi.sock", "socket to serve the driver on")
	host := flag.String("host-endpoint", "", "path of that socket on the node")
	registrar := flag.String("registration", "", "socket to register with a kubelet on; empty for a controller alone")
	data := flag.String("data", "/data", "folder that holds the volumes")
	flag.Parse()
	if err := run(context.Background(), *name, *endpoint, *host, *registrar, *data); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name, endpoint, host, registrar, data string) error {
	driver := service.New(service.Config{
		DriverName: name, NodeExpansionRequired: true, PermissiveTargetPath: true, IO: &mounts{data: data, loops: map[string]*os.File{}},
	})
	server := grpc.NewServer(grpc.UnaryInterceptor(report))
	csi.RegisterIdentityServer(server, driver)
	csi.RegisterControllerServer(server, driver)
	csi.RegisterNodeServer(server, driver)
	errs := make(chan error, 2)
	var wg sync.WaitGroup
	serve := func(server *grpc.Server, socket string) error {
		if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
		if err != nil {
			return err
		}
		wg.Go(func() { errs <- server.Serve(l) })
		return nil
	}
	if err := serve(server, endpoint); err != nil {
		return err
	}
	if registrar != "" {
		offering := grpc.NewServer()
		registration.RegisterRegistrationServer(offering, &offer{name: name, endpoint: host})
		if err := serve(offering, registrar); err != nil {
			return err
		}
	}
	return <-errs
}

// report prints each call and how it ended.
func report(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	answer, err := handler(ctx, request)
	fmt.Fprintln(os.Stdout, info.FullMethod, err)
	return answer, err
}

// offer is the registration that a kubelet asks for.
type offer struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
}

func (o *offer) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: o.name, Endpoint: o.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (o *offer) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	fmt.Fprintln(os.Stdout, "registered", s.GetPluginRegistered(), s.GetError())
	return &registration.RegistrationStatusResponse{}, nil
}

// mounts is the mock's view of the file system.
type mounts struct {
	data string

	mu sync.Mutex
	// loops are the devices of raw block volumes by target; each ends when its file is closed.
	loops map[string]*os.File
}

func (m *mounts) DirExists(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// Mkdir is asked for the target of a volume, .../kubernetes.io~csi/<PersistentVolume>/mount, or of a raw block volume,
// .../kubernetes.io~csi/<PersistentVolume>.
func (m *mounts) Mkdir(path string) error {
	if filepath.Base(filepath.Dir(path)) == "kubernetes.io~csi" {
		return m.device(path)
	}
	source := filepath.Join(m.data, filepath.Base(filepath.Dir(path)))
	if err := os.MkdirAll(source, 0o777); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return unix.Mount(source, path, "", unix.MS_BIND, "")
}

// deviceSize is a raw block volume's in bytes, whatever was asked for.
const deviceSize = 16 << 20

// device makes a loop device of a file and binds it to path.
func (m *mounts) device(path string) error {
	file, err := os.OpenFile(filepath.Join(m.data, filepath.Base(path)+".img"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(deviceSize); err != nil {
		return err
	}
	control, err := os.Open("/dev/loop-control")
	if err != nil {
		return err
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("find a free loop device: %w", err)
	}
	name := fmt.Sprintf("/dev/loop%d", number)
	loop, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	config := &unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), config); err != nil {
		return errors.Join(fmt.Errorf("configure %s: %w", name, err), loop.Close())
	}
	m.mu.Lock()
	m.loops[path] = loop
	m.mu.Unlock()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return unix.Mount(name, path, "", unix.MS_BIND, "")
}

// RemoveAll takes the mount down first, so that the volume's content stays.
func (m *mounts) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if loop := m.loops[path]; loop != nil {
		delete(m.loops, path)
		defer loop.Close()
	}
	if err := unix.Unmount(path, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (m *mounts) Rename(from, to string) error { return os.Rename(from, to) }
