// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/csi"
)

// plugins follows the folder in which plugins put their registration sockets: CSI drivers, DRA drivers and device plugins.
type plugins struct {
	k *Kubelet

	mu      sync.Mutex
	drivers map[string]*csi.Driver // by name
	// sockets says which registration socket announced what.
	sockets map[string]announced
}

// announced is what came of a registration socket. One that was made anew under its old path is another one: the plugin behind
// it may be another.
type announced struct {
	kind, name, endpoint string
	made                 identity
}

// identity tells a file from a later one of the same path.
type identity struct {
	inode uint64
	made  time.Time
}

func newPlugins(k *Kubelet) *plugins {
	return &plugins{k: k, drivers: map[string]*csi.Driver{}, sockets: map[string]announced{}}
}

func (p *plugins) driver(name string) (*csi.Driver, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.drivers[name]
	return d, ok
}

func (p *plugins) run(ctx context.Context) error {
	dir := filepath.Join(p.k.config.Root, "plugins_registry")
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch plugins: %w", err)
	}
	defer watcher.Close() //nolint:errcheck // only read
	defer p.close()
	if err := addTree(watcher, dir); err != nil {
		return fmt.Errorf("watch plugins: %w", err)
	}
	var again <-chan time.Time
	delay := 200 * time.Millisecond
	scan := func() {
		again = nil
		if p.scan(ctx, dir) {
			delay = 200 * time.Millisecond
			return
		}
		again = time.After(delay)
		delay = min(2*delay, 10*time.Second)
	}
	scan()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-watcher.Events:
			if !ok {
				return errors.New("watch of plugins ended")
			}
			if info, err := os.Stat(event.Name); err == nil && info.IsDir() {
				if err := addTree(watcher, event.Name); err != nil {
					p.k.log.Warn("plugin folder can't be watched", "err", err)
				}
			}
			delay = 200 * time.Millisecond
			again = time.After(20 * time.Millisecond) // the socket is made before it listens
		case err := <-watcher.Errors:
			p.k.log.Warn("watch of plugins lost events", "err", err)
			again = time.After(delay)
		case <-again:
			scan()
		}
	}
}

func addTree(w *fsnotify.Watcher, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return w.Add(path)
	})
}

// scan registers new sockets and forgets gone ones. It reports whether nothing is left to be tried again.
func (p *plugins) scan(ctx context.Context, dir string) bool {
	found, settled := map[string]identity{}, true
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSocket != 0 && !strings.HasPrefix(d.Name(), ".") {
			if info, err := d.Info(); err == nil {
				found[path] = identity{inode: info.Sys().(*syscall.Stat_t).Ino, made: info.ModTime()}
			}
		}
		return nil // what vanishes is not there
	})
	if err != nil {
		return false
	}
	p.mu.Lock()
	known := maps.Clone(p.sockets)
	p.mu.Unlock()
	for path, what := range known {
		if _, ok := found[path]; !ok {
			p.forget(ctx, path, what)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		if s, ok := known[path]; ok && s.made == found[path] {
			continue
		}
		if err := p.register(ctx, path, found[path]); err != nil {
			if ctx.Err() == nil {
				p.k.log.Warn("plugin can't be registered", "socket", path, "err", err)
			}
			settled = false
		}
	}
	return settled
}

// register does the handshake with one socket.
func (p *plugins) register(ctx context.Context, path string, made identity) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the answers are all that counts
	service := registration.NewRegistrationClient(conn)
	info, err := service.GetInfo(ctx, &registration.InfoRequest{})
	if err != nil {
		return fmt.Errorf("ask plugin: %w", err)
	}
	endpoint := info.GetEndpoint()
	if endpoint == "" {
		endpoint = path
	}
	problem := p.accept(ctx, info, endpoint)
	status := &registration.RegistrationStatus{PluginRegistered: problem == nil}
	if problem != nil {
		status.Error = fmt.Sprintf("RegisterPlugin error -- plugin registration failed with err: %v", problem)
	}
	p.mu.Lock()
	if problem == nil {
		p.sockets[path] = announced{info.GetType(), info.GetName(), endpoint, made}
	}
	p.mu.Unlock()
	if _, err := service.NotifyRegistrationStatus(ctx, status); err != nil {
		return fmt.Errorf("answer plugin: %w", err)
	}
	return problem
}

func (p *plugins) accept(ctx context.Context, info *registration.PluginInfo, endpoint string) error {
	switch info.GetType() {
	case registration.CSIPlugin:
		return p.acceptCSI(ctx, info, endpoint)
	case registration.DRAPlugin:
		if err := p.k.claims.Register(info.GetName(), endpoint, info.GetSupportedVersions()); err != nil {
			return err
		}
		p.k.log.Info("dra driver registered", "driver", info.GetName())
		p.k.retryPods()
		return nil
	}
	if info.GetType() != registration.DevicePlugin {
		return fmt.Errorf("plugins of type %q are not supported by this node", info.GetType())
	}
	if err := p.k.devices.Register(ctx, info.GetName(), endpoint, info.GetSupportedVersions()); err != nil {
		return err
	}
	p.k.retryPods()
	return nil
}

// retryPods lets pods that may wait for a driver try again at once.
func (k *Kubelet) retryPods() {
	for _, w := range k.all() {
		w.post(func() { w.machine.Retry() })
	}
}

func (p *plugins) acceptCSI(ctx context.Context, info *registration.PluginInfo, endpoint string) error {
	if !slices.ContainsFunc(info.GetSupportedVersions(), func(v string) bool { return strings.HasPrefix(strings.TrimPrefix(v, "v"), "1.") }) {
		return fmt.Errorf("none of the versions %v is supported", info.GetSupportedVersions())
	}
	d, err := csi.Connect(ctx, info.GetName(), endpoint)
	if err != nil {
		return err
	}
	node, err := d.Info(ctx)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	if err := p.publish(ctx, d.Name, &node); err != nil {
		return errors.Join(err, d.Close())
	}
	p.mu.Lock()
	old := p.drivers[d.Name]
	p.drivers[d.Name] = d
	p.mu.Unlock()
	if old != nil {
		if err := old.Close(); err != nil {
			p.k.log.Debug("connection to a replaced driver", "err", err)
		}
	}
	p.k.log.Info("csi driver registered", "driver", d.Name)
	p.k.retryPods() // they may wait for the driver
	return nil
}

// forget drops a driver whose registration socket is gone.
func (p *plugins) forget(ctx context.Context, path string, what announced) {
	p.mu.Lock()
	delete(p.sockets, path)
	if what.kind == registration.DRAPlugin {
		p.mu.Unlock()
		p.k.claims.Unregister(what.name, what.endpoint)
		return
	}
	if what.kind == registration.DevicePlugin {
		p.mu.Unlock()
		p.k.devices.Unregister(what.name, what.endpoint)
		return
	}
	name, still := what.name, false
	for _, other := range p.sockets {
		still = still || other.kind == what.kind && other.name == what.name
	}
	d := p.drivers[name]
	if !still {
		delete(p.drivers, name)
	}
	p.mu.Unlock()
	if still || d == nil {
		return
	}
	if err := errors.Join(d.Close(), p.publish(ctx, name, nil)); err != nil && ctx.Err() == nil {
		p.k.log.Warn("csi driver can't be withdrawn", "err", err)
	}
}

func (p *plugins) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.drivers {
		if err := d.Close(); err != nil {
			p.k.log.Debug("connection to a driver", "err", err)
		}
	}
}

// publish writes the driver into the node's CSINode object and its topology into the node's labels; nil info withdraws it.
func (p *plugins) publish(ctx context.Context, name string, info *csi.Info) error {
	k := p.k
	if k.client == nil {
		return nil
	}
	for range 10 {
		err := p.publishOnce(ctx, name, info)
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			if err != nil {
				return fmt.Errorf("publish csi driver %s: %w", name, err)
			}
			break
		}
	}
	if info == nil {
		return p.annotate(ctx, name, nil)
	}
	return p.annotate(ctx, name, info)
}

func (p *plugins) publishOnce(ctx context.Context, name string, info *csi.Info) error {
	k := p.k
	objects := client.Of[*storagev1.CSINode](k.client)
	current, err := objects.Get(ctx, "", k.config.NodeName)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return err
	}
	if missing {
		current = &storagev1.CSINode{}
		current.Name = k.config.NodeName
		if n := k.node(); n != nil {
			current.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
		}
	}
	next := current.DeepCopy()
	next.Spec.Drivers = slices.DeleteFunc(next.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == name })
	if info != nil {
		d := storagev1.CSINodeDriver{Name: name, NodeID: info.NodeID, TopologyKeys: slices.Sorted(maps.Keys(info.Topology))}
		if info.MaxVolumes > 0 {
			count := int32(min(info.MaxVolumes, 1<<31-1))
			d.Allocatable = &storagev1.VolumeNodeResources{Count: &count}
		}
		next.Spec.Drivers = append(next.Spec.Drivers, d)
	}
	if missing {
		_, err = objects.Create(ctx, next)
	} else {
		_, err = objects.Update(ctx, next)
	}
	return err
}

// ensureCSINode makes the node's CSINode object, which controllers expect even without drivers.
func (p *plugins) ensureCSINode(ctx context.Context) {
	if _, err := client.Of[*storagev1.CSINode](p.k.client).Get(ctx, "", p.k.config.NodeName); apierrors.IsNotFound(err) {
		if err := p.publishOnce(ctx, "", nil); err != nil && ctx.Err() == nil {
			p.k.log.Warn("CSINode object can't be made", "err", err)
		}
	}
}

// annotate writes the driver's node id and topology labels to the node.
func (p *plugins) annotate(ctx context.Context, name string, info *csi.Info) error {
	const annotation = "csi.volume.kubernetes.io/nodeid"
	nodes := client.Of[*corev1.Node](p.k.client)
	n, err := nodes.Get(ctx, "", p.k.config.NodeName)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ids := map[string]string{}
	if text := n.Annotations[annotation]; text != "" {
		if err := unmarshal(text, &ids); err != nil {
			ids = map[string]string{}
		}
	}
	labels := map[string]string{}
	if info == nil {
		delete(ids, name)
	} else {
		ids[name] = info.NodeID
		maps.Copy(labels, info.Topology)
	}
	patch := marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{annotation: nilIfEmpty(ids)}, "labels": labels,
	}})
	_, err = nodes.Patch(ctx, "", n.Name, types.MergePatchType, patch)
	return err
}

func nilIfEmpty(ids map[string]string) any {
	if len(ids) == 0 {
		return nil
	}
	return string(marshal(ids))
}
