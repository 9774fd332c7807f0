// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package volumes makes the volumes of a node's pods and takes them down again. What exists is read from the disk, never from
// memory: a pod's volumes lie below <root>/pods/<uid>/volumes/<plugin>/<name>, and a volume that a driver mounted keeps a note
// beside it (csi.go) that says how to take it down. So a restart needs no reconstruction, and an interrupted set-up is finished
// or undone by running it again.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/csi"
	"kogge.dev/kogge/kubelet/render"
)

// Config is what volumes are made from.
type Config struct {
	// Root is the kubelet's folder.
	Root string
	// NodeName is this node's.
	NodeName string
	// Client reads claims, persistent volumes and attachments; nil for a node without API server.
	Client *client.Client
	// ConfigMap and Secret read what pods refer to.
	ConfigMap func(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret    func(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	// Token asks for a token of a service account.
	Token func(ctx context.Context, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
	// Facts are what the downward API tells of a pod.
	Facts func(p *corev1.Pod) render.Facts
	// Driver finds a registered CSI driver.
	Driver func(name string) (*csi.Driver, bool)
	// Announce returns once the node's status says that volumes are in use that InUse lists: before that they are not
	// mounted, because who reads the status may detach what it does not name.
	Announce func(ctx context.Context, name corev1.UniqueVolumeName) error
	// Released is told that InUse lists less than before.
	Released func()
	// MemoryCapacity of the node in bytes bounds memory-backed volumes.
	MemoryCapacity int64
	Logger         *slog.Logger
}

// Volumes makes and removes volumes. It is safe for concurrent use; calls for one pod run one after the other.
type Volumes struct {
	config Config
	tokens *tokens

	mu    sync.Mutex
	locks map[types.UID]*sync.Mutex
	// staging holds a lock for each volume that several pods may share, by its staging path: one pod's set-up must not meet
	// another's taking down. It is taken after the pod's lock.
	staging map[string]*sync.Mutex
	// inUse lists the unique names of attachable volumes per pod.
	inUse map[types.UID]map[corev1.UniqueVolumeName]bool
	// again lists the volumes per pod that are looked at again and again: their drivers want to publish them anew, or they
	// may have grown.
	again map[types.UID]map[string]bool
	// sizes caches what Stats measured, see stats.go.
	sizes map[string]measured
}

// New makes the volumes of a node.
func New(config Config) *Volumes {
	return &Volumes{
		config: config, tokens: newTokens(config.Token), locks: map[types.UID]*sync.Mutex{}, inUse: map[types.UID]map[corev1.UniqueVolumeName]bool{},
		sizes: map[string]measured{}, again: map[types.UID]map[string]bool{}, staging: map[string]*sync.Mutex{},
	}
}

// Error names the volume that could not be set up.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Mount makes all volumes of a pod, or brings their content up to date. It returns when it should be called again because
// something in a volume expires; zero means never. Errors are joined *Error values.
func (v *Volumes) Mount(ctx context.Context, p *corev1.Pod) (time.Time, error) {
	return v.mountAll(ctx, p, func(*corev1.Volume) bool { return true })
}

// Refresh is Mount for the volumes that may change: those made from API objects, those that a driver wants to publish again and
// again, and those that may grow. The others belong to the pod once they are made.
func (v *Volumes) Refresh(ctx context.Context, p *corev1.Pod) (time.Time, error) {
	return v.mountAll(ctx, p, func(vol *corev1.Volume) bool {
		s := &vol.VolumeSource
		return s.ConfigMap != nil || s.Secret != nil || s.DownwardAPI != nil || s.Projected != nil || v.recurs(p.UID, vol.Name)
	})
}

func (v *Volumes) mountAll(ctx context.Context, p *corev1.Pod, selects func(*corev1.Volume) bool) (time.Time, error) {
	defer v.lock(p.UID)()
	var next time.Time
	var errs []error
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		if !selects(vol) {
			continue
		}
		refresh, err := v.mount(ctx, p, vol)
		if err != nil {
			errs = append(errs, &Error{vol.Name, err})
			continue
		}
		if !refresh.IsZero() && (next.IsZero() || refresh.Before(next)) {
			next = refresh
		}
	}
	return next, errors.Join(errs...)
}

func (v *Volumes) lock(uid types.UID) (unlock func()) {
	v.mu.Lock()
	l := v.locks[uid]
	if l == nil {
		l = &sync.Mutex{}
		v.locks[uid] = l
	}
	v.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// mount makes one volume.
func (v *Volumes) mount(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) (time.Time, error) {
	s := &vol.VolumeSource
	var none time.Time
	switch {
	case s.ConfigMap != nil, s.Secret != nil, s.DownwardAPI != nil, s.Projected != nil:
		return v.mountContent(ctx, p, vol)
	case s.EmptyDir != nil:
		return none, v.mountEmptyDir(p, vol)
	case s.HostPath != nil:
		return none, checkHostPath(s.HostPath)
	case s.Image != nil:
		return none, nil // the runtime mounts it
	case s.PersistentVolumeClaim != nil:
		return v.due(p.UID, vol.Name, v.mountClaim(ctx, p, vol, s.PersistentVolumeClaim.ClaimName, s.PersistentVolumeClaim.ReadOnly))
	case s.Ephemeral != nil:
		return v.due(p.UID, vol.Name, v.mountClaim(ctx, p, vol, p.Name+"-"+vol.Name, false))
	case s.CSI != nil:
		return v.due(p.UID, vol.Name, v.mountInlineCSI(ctx, p, vol))
	case s.NFS != nil, s.ISCSI != nil, s.FC != nil:
		return none, errors.New("network volumes need a CSI driver on this node")
	case s.GitRepo != nil:
		return none, errors.New("gitRepo volumes are disabled")
	}
	return none, errors.New("no volume plugin matched")
}

// recurEvery is how often a volume is looked at that its driver wants to publish anew or that may grow. Nodes may not watch
// claims, so that the growth of one is noticed by asking.
const recurEvery = time.Minute

// due returns when a volume is to be looked at again, if it is.
func (v *Volumes) due(uid types.UID, name string, err error) (time.Time, error) {
	if err != nil || !v.recurs(uid, name) {
		return time.Time{}, err
	}
	return time.Now().Add(recurEvery), nil
}

func (v *Volumes) recurs(uid types.UID, name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.again[uid][name]
}

// setRecurs remembers that a volume of a pod is to be looked at again and again.
func (v *Volumes) setRecurs(uid types.UID, name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.again[uid] == nil {
		v.again[uid] = map[string]bool{}
	}
	v.again[uid][name] = true
}

// Path is where a volume of a pod lies on the node.
func (v *Volumes) Path(ctx context.Context, p *corev1.Pod, name string) (path string, err error) {
	for i := range p.Spec.Volumes {
		vol := &p.Spec.Volumes[i]
		if vol.Name != name {
			continue
		}
		s := &vol.VolumeSource
		switch {
		case s.HostPath != nil:
			return s.HostPath.Path, nil
		case s.PersistentVolumeClaim != nil, s.Ephemeral != nil:
			return v.claimPath(ctx, p, vol)
		case s.CSI != nil:
			return filepath.Join(v.dir(p.UID, pluginCSI, vol.Name), "mount"), nil
		}
		plugin := pluginOf(s)
		if plugin == "" {
			return "", fmt.Errorf("volume %q has no path on the node", name)
		}
		return v.dir(p.UID, plugin, vol.Name), nil
	}
	return "", fmt.Errorf("pod has no volume %q", name)
}

// The folders of upstream's plugins, which other software knows.
const (
	pluginConfigMap  = "kubernetes.io~configmap"
	pluginSecret     = "kubernetes.io~secret"
	pluginDownward   = "kubernetes.io~downward-api"
	pluginProjected  = "kubernetes.io~projected"
	pluginEmptyDir   = "kubernetes.io~empty-dir"
	pluginCSI        = "kubernetes.io~csi"
	pluginLocal      = "kubernetes.io~local-volume"
	noteName         = "vol_data.json"
	subpathFolder    = "volume-subpaths"
	devicesFolder    = "volumeDevices"
	defaultDirectory = 0o755
)

func pluginOf(s *corev1.VolumeSource) string {
	switch {
	case s.ConfigMap != nil:
		return pluginConfigMap
	case s.Secret != nil:
		return pluginSecret
	case s.DownwardAPI != nil:
		return pluginDownward
	case s.Projected != nil:
		return pluginProjected
	case s.EmptyDir != nil:
		return pluginEmptyDir
	}
	return ""
}

func (v *Volumes) podDir(uid types.UID) string {
	return filepath.Join(v.config.Root, "pods", string(uid))
}

func (v *Volumes) dir(uid types.UID, plugin, name string) string {
	return filepath.Join(v.podDir(uid), "volumes", plugin, name)
}

// Unmount takes down all volumes of a pod, sub-path mounts first. It needs only the pod's uid: what the disk holds decides.
func (v *Volumes) Unmount(ctx context.Context, uid types.UID) error {
	defer v.lock(uid)()
	if err := unmountBelow(filepath.Join(v.podDir(uid), subpathFolder)); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(v.podDir(uid), subpathFolder)); err != nil {
		return fmt.Errorf("remove sub-paths of pod %s: %w", uid, err)
	}
	base := filepath.Join(v.podDir(uid), "volumes")
	plugins, err := os.ReadDir(base)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("list volumes of pod %s: %w", uid, err)
	}
	var errs []error
	for _, plugin := range plugins {
		volumes, err := os.ReadDir(filepath.Join(base, plugin.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, vol := range volumes {
			errs = append(errs, v.unmountOne(ctx, uid, plugin.Name(), vol.Name()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unmount volumes of pod %s: %w", uid, err)
	}
	v.tokens.forget(uid)
	v.release(uid)
	return os.RemoveAll(base)
}

// release forgets which attachable volumes a pod holds.
func (v *Volumes) release(uid types.UID) {
	v.mu.Lock()
	held := len(v.inUse[uid]) > 0
	delete(v.inUse, uid)
	v.mu.Unlock()
	if held && v.config.Released != nil {
		v.config.Released()
	}
}

func (v *Volumes) unmountOne(ctx context.Context, uid types.UID, plugin, name string) error {
	dir := v.dir(uid, plugin, name)
	if plugin == pluginCSI {
		if err := v.unmountCSI(ctx, dir); err != nil {
			return err
		}
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Forget drops what is remembered of a pod that is gone.
func (v *Volumes) Forget(uid types.UID) {
	v.release(uid)
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.locks, uid)
	delete(v.again, uid)
	for path := range v.sizes {
		if strings.HasPrefix(path, v.podDir(uid)+"/") {
			delete(v.sizes, path)
		}
	}
}

// InUse lists the attachable volumes that pods hold, for the node's status.
func (v *Volumes) InUse() []corev1.UniqueVolumeName {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := map[corev1.UniqueVolumeName]bool{}
	for _, names := range v.inUse {
		for name := range names {
			seen[name] = true
		}
	}
	out := make([]corev1.UniqueVolumeName, 0, len(seen))
	for name := range seen {
		out = append(out, name)
	}
	return out
}
