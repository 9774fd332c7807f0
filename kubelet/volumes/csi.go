// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/csi"
)

// note lies beside a mounted volume and says how to take it down. The fields are upstream's.
type note struct {
	Driver       string `json:"driverName"`
	VolumeHandle string `json:"volumeHandle"`
	SpecVolID    string `json:"specVolID"`
	NodeName     string `json:"nodeName"`
	Lifecycle    string `json:"volumeLifecycleMode"`
	Attachment   string `json:"attachmentID,omitempty"`
	Staging      string `json:"stagingPath,omitempty"`
	Block        bool   `json:"block,omitempty"`
}

// driver returns a registered driver and its API object, which may be missing.
func (v *Volumes) driver(ctx context.Context, name string) (*csi.Driver, *storagev1.CSIDriver, error) {
	d, ok := v.config.Driver(name)
	if !ok {
		return nil, nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
	}
	object, err := client.Of[*storagev1.CSIDriver](v.config.Client).Get(ctx, "", name)
	if apierrors.IsNotFound(err) {
		return d, &storagev1.CSIDriver{}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("get CSIDriver %s: %w", name, err)
	}
	return d, object, nil
}

func (v *Volumes) mountInlineCSI(ctx context.Context, p *corev1.Pod, vol *corev1.Volume) error {
	s := vol.CSI
	d, object, err := v.driver(ctx, s.Driver)
	if err != nil {
		return err
	}
	supported := false
	for _, mode := range object.Spec.VolumeLifecycleModes {
		supported = supported || mode == storagev1.VolumeLifecycleEphemeral
	}
	if !supported {
		return fmt.Errorf("volume mode %q not supported by driver %s (no CSIDriver object)", storagev1.VolumeLifecycleEphemeral, s.Driver)
	}
	dir := v.dir(p.UID, pluginCSI, vol.Name)
	sum := sha256.Sum256([]byte(string(p.UID) + vol.Name))
	w := &csi.Volume{
		ID: fmt.Sprintf("csi-%x", sum), Target: filepath.Join(dir, "mount"), ReadOnly: s.ReadOnly != nil && *s.ReadOnly,
		Mode: spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, Attributes: copyOf(s.VolumeAttributes),
	}
	if s.FSType != nil {
		w.FSType = *s.FSType
	}
	if ref := s.NodePublishSecretRef; ref != nil {
		if w.Secrets, err = v.secretData(ctx, p.Namespace, ref.Name); err != nil {
			return err
		}
	}
	n := note{Driver: s.Driver, VolumeHandle: w.ID, SpecVolID: vol.Name, NodeName: v.config.NodeName, Lifecycle: string(storagev1.VolumeLifecycleEphemeral)}
	if err := writeNote(dir, n); err != nil {
		return err
	}
	return v.publish(ctx, p, vol.Name, d, object, w, n.Lifecycle)
}

func (v *Volumes) mountPersistentCSI(ctx context.Context, p *corev1.Pod, name string, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, readOnly bool) error {
	s := pv.Spec.CSI
	d, object, err := v.driver(ctx, s.Driver)
	if err != nil {
		return err
	}
	attachable := object.Spec.AttachRequired == nil || *object.Spec.AttachRequired
	if attachable {
		if err := v.use(ctx, p.UID, uniqueName(s)); err != nil {
			return err
		}
	}
	sum := sha256.Sum256([]byte(s.VolumeHandle))
	staging := filepath.Join(v.config.Root, "plugins", "kubernetes.io", "csi", s.Driver, fmt.Sprintf("%x", sum), "globalmount")
	dir := v.dir(p.UID, pluginCSI, pv.Name)
	w := &csi.Volume{
		ID: s.VolumeHandle, Staging: staging, Target: filepath.Join(dir, "mount"), Block: isBlock(pv), FSType: s.FSType, Options: pv.Spec.MountOptions,
		ReadOnly: readOnly || s.ReadOnly, Mode: accessMode(pv, d), Attributes: copyOf(s.VolumeAttributes),
	}
	if w.Block {
		w.Target = v.blockTarget(p.UID, pv.Name)
	}
	if d.Can(spec.NodeServiceCapability_RPC_EXPAND_VOLUME) {
		v.setRecurs(p.UID, name)
	}
	defer v.lockStaging(staging)()
	if !republishes(object) && isMounted(w.Target) {
		return v.expand(ctx, d, w, pvc, pv)
	}
	n := note{
		Driver: s.Driver, VolumeHandle: s.VolumeHandle, SpecVolID: pv.Name, NodeName: v.config.NodeName, Staging: staging, Block: w.Block,
		Lifecycle: string(storagev1.VolumeLifecyclePersistent),
	}
	if attachable {
		if n.Attachment, w.Publish, err = v.attached(ctx, s); err != nil {
			return err
		}
	}
	if err := writeNote(dir, n); err != nil {
		return err
	}
	if err := v.stage(ctx, d, w, s); err != nil {
		return err
	}
	if ref := s.NodePublishSecretRef; ref != nil {
		if w.Secrets, err = v.secretData(ctx, ref.Namespace, ref.Name); err != nil {
			return err
		}
	}
	if err := v.publish(ctx, p, name, d, object, w, n.Lifecycle); err != nil {
		return err
	}
	return v.expand(ctx, d, w, pvc, pv)
}

func (v *Volumes) stage(ctx context.Context, d *csi.Driver, w *csi.Volume, s *corev1.CSIPersistentVolumeSource) error {
	if !d.Can(spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME) {
		return nil
	}
	if err := os.MkdirAll(w.Staging, 0o750); err != nil {
		return err
	}
	staged := *w
	if ref := s.NodeStageSecretRef; ref != nil {
		var err error
		if staged.Secrets, err = v.secretData(ctx, ref.Namespace, ref.Name); err != nil {
			return err
		}
	}
	if err := d.Stage(ctx, &staged); err != nil {
		return fmt.Errorf("MountVolume.MountDevice failed: %w", err)
	}
	return nil
}

// writeNote leaves a note before the driver is asked for anything, so that whatever it does can be undone.
func writeNote(dir string, n note) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, noteName), data, 0o600)
}

// publish asks the driver to make the volume appear in the pod's folder.
func (v *Volumes) publish(ctx context.Context, p *corev1.Pod, name string, d *csi.Driver, object *storagev1.CSIDriver, w *csi.Volume, lifecycle string) error {
	if err := os.MkdirAll(filepath.Dir(w.Target), 0o750); err != nil {
		return err
	}
	if republishes(object) {
		v.setRecurs(p.UID, name)
	}
	there := isMounted(w.Target)
	if there && !republishes(object) {
		return nil
	}
	if err := v.addPodInfo(ctx, p, object, w, lifecycle); err != nil {
		return err
	}
	fsgroup := fsGroup(p)
	delegated := d.Can(spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP)
	if fsgroup != nil && delegated {
		w.Group = strconv.FormatInt(*fsgroup, 10)
	}
	if err := d.Publish(ctx, w); err != nil {
		return fmt.Errorf("rpc failed: %w", err)
	}
	if there || w.ReadOnly || w.Block || fsgroup == nil || delegated || !appliesGroup(object, w) {
		return nil
	}
	if onRootMismatch(p) {
		return ownIfMismatched(w.Target, *fsgroup)
	}
	return own(w.Target, *fsgroup, false)
}

func republishes(object *storagev1.CSIDriver) bool {
	return object.Spec.RequiresRepublish != nil && *object.Spec.RequiresRepublish
}

func isMounted(path string) bool {
	mounted, err := isMountPoint(path)
	return err == nil && mounted
}

// lockStaging keeps set-up and taking down of one volume apart, whichever pods they are for.
func (v *Volumes) lockStaging(path string) (unlock func()) {
	v.mu.Lock()
	l := v.staging[path]
	if l == nil {
		l = &sync.Mutex{}
		v.staging[path] = l
	}
	v.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// appliesGroup follows the driver's fsGroupPolicy; without one, volumes with a file system that one node writes are changed.
func appliesGroup(object *storagev1.CSIDriver, w *csi.Volume) bool {
	policy := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
	if object.Spec.FSGroupPolicy != nil {
		policy = *object.Spec.FSGroupPolicy
	}
	switch policy {
	case storagev1.NoneFSGroupPolicy:
		return false
	case storagev1.FileFSGroupPolicy:
		return true
	case storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy:
	}
	switch w.Mode {
	case spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		spec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		return w.FSType != ""
	default:
		return false
	}
}

// addPodInfo tells the driver about the pod, and gives it tokens, where its CSIDriver object asks for that.
func (v *Volumes) addPodInfo(ctx context.Context, p *corev1.Pod, object *storagev1.CSIDriver, w *csi.Volume, lifecycle string) error {
	if object.Spec.PodInfoOnMount != nil && *object.Spec.PodInfoOnMount {
		const prefix = "csi.storage.k8s.io/"
		w.Attributes[prefix+"pod.name"], w.Attributes[prefix+"pod.namespace"] = p.Name, p.Namespace
		w.Attributes[prefix+"pod.uid"], w.Attributes[prefix+"serviceAccount.name"] = string(p.UID), p.Spec.ServiceAccountName
		w.Attributes[prefix+"ephemeral"] = strconv.FormatBool(lifecycle == string(storagev1.VolumeLifecycleEphemeral))
	}
	if len(object.Spec.TokenRequests) == 0 {
		return nil
	}
	type entry struct {
		Token      string `json:"token"`
		Expiration string `json:"expirationTimestamp"`
	}
	all := map[string]entry{}
	for _, r := range object.Spec.TokenRequests {
		seconds := int64(3600)
		if r.ExpirationSeconds != nil {
			seconds = *r.ExpirationSeconds
		}
		var audiences []string
		if r.Audience != "" {
			audiences = []string{r.Audience}
		}
		text, expires, err := v.tokens.request(ctx, p, audiences, seconds)
		if err != nil {
			return err
		}
		all[r.Audience] = entry{Token: text, Expiration: expires.UTC().Format("2006-01-02T15:04:05Z07:00")}
	}
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	w.Attributes["csi.storage.k8s.io/serviceAccount.tokens"] = string(data)
	return nil
}

// attached returns the attachment of a volume to this node once the controller has made it.
func (v *Volumes) attached(ctx context.Context, s *corev1.CSIPersistentVolumeSource) (string, map[string]string, error) {
	sum := sha256.Sum256([]byte(s.VolumeHandle + s.Driver + v.config.NodeName))
	name := fmt.Sprintf("csi-%x", sum)
	a, err := client.Of[*storagev1.VolumeAttachment](v.config.Client).Get(ctx, "", name)
	if err != nil {
		return "", nil, fmt.Errorf("waiting for attachment of volume %s: %w", s.VolumeHandle, err)
	}
	if e := a.Status.AttachError; e != nil {
		return "", nil, errors.New(e.Message)
	}
	if !a.Status.Attached {
		return "", nil, fmt.Errorf("volume %s is not attached yet", s.VolumeHandle)
	}
	return name, a.Status.AttachmentMetadata, nil
}

// expand lets the driver grow the file system after the controller has grown the volume.
func (v *Volumes) expand(ctx context.Context, d *csi.Driver, w *csi.Volume, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) error {
	want, have := pv.Spec.Capacity[corev1.ResourceStorage], pvc.Status.Capacity[corev1.ResourceStorage]
	if want.Cmp(have) <= 0 || !d.Can(spec.NodeServiceCapability_RPC_EXPAND_VOLUME) {
		return nil
	}
	grown := *w
	if ref := pv.Spec.CSI.NodeExpandSecretRef; ref != nil {
		var err error
		if grown.Secrets, err = v.secretData(ctx, ref.Namespace, ref.Name); err != nil {
			return err
		}
	}
	if err := d.Expand(ctx, &grown, want.Value()); err != nil {
		return fmt.Errorf("MountVolume.NodeExpandVolume failed: %w", err)
	}
	fresh := pvc.DeepCopy()
	fresh.Status.Capacity[corev1.ResourceStorage] = want
	kept := fresh.Status.Conditions[:0]
	for _, c := range fresh.Status.Conditions {
		if c.Type != corev1.PersistentVolumeClaimFileSystemResizePending && c.Type != corev1.PersistentVolumeClaimResizing {
			kept = append(kept, c)
		}
	}
	fresh.Status.Conditions = kept
	delete(fresh.Status.AllocatedResourceStatuses, corev1.ResourceStorage)
	_, err := client.Of[*corev1.PersistentVolumeClaim](v.config.Client).UpdateStatus(ctx, fresh)
	return err
}

// unmountCSI takes down a volume by its note. A driver that is gone fails: its mounts are its own.
func (v *Volumes) unmountCSI(ctx context.Context, dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, noteName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var n note
	if err := json.Unmarshal(data, &n); err != nil {
		return fmt.Errorf("read %s: %w", noteName, err)
	}
	d, ok := v.config.Driver(n.Driver)
	if !ok {
		return fmt.Errorf("driver name %s not found in the list of registered CSI drivers", n.Driver)
	}
	if n.Staging != "" {
		defer v.lockStaging(n.Staging)()
	}
	target := filepath.Join(dir, "mount")
	if n.Block {
		target = v.blockTarget(types.UID(filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(dir))))), n.SpecVolID)
	}
	if err := d.Unpublish(ctx, n.VolumeHandle, target); err != nil {
		return fmt.Errorf("UnmountVolume.TearDown failed for volume %q : %w", n.SpecVolID, err)
	}
	// A driver removes its target; what is left of a mount here must not be deleted with its content.
	if err := unmountBelow(target); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(filepath.Join(dir, noteName)); err != nil {
		return err
	}
	if n.Staging == "" || v.stillStaged(n) {
		return nil
	}
	if err := d.Unstage(ctx, n.VolumeHandle, n.Staging); err != nil {
		return fmt.Errorf("UnmountVolume.UnmountDevice failed for volume %q : %w", n.SpecVolID, err)
	}
	if err := unmountBelow(n.Staging); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(n.Staging))
}

// stillStaged reports whether another pod of this node has the same volume.
func (v *Volumes) stillStaged(n note) bool {
	notes, err := filepath.Glob(filepath.Join(v.config.Root, "pods", "*", "volumes", pluginCSI, "*", noteName))
	if err != nil {
		return true
	}
	for _, path := range notes {
		var other note
		data, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(data, &other) == nil && other.Driver == n.Driver && other.VolumeHandle == n.VolumeHandle {
			return true
		}
	}
	return false
}

func (v *Volumes) blockTarget(uid types.UID, name string) string {
	return filepath.Join(v.podDir(uid), devicesFolder, pluginCSI, name)
}

func (v *Volumes) secretData(ctx context.Context, namespace, name string) (map[string]string, error) {
	s, err := v.config.Secret(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(s.Data))
	for k, value := range s.Data {
		out[k] = string(value)
	}
	return out, nil
}

// use lists an attachable volume as in use and returns once the node's status says so.
func (v *Volumes) use(ctx context.Context, uid types.UID, name corev1.UniqueVolumeName) error {
	v.mu.Lock()
	if v.inUse[uid] == nil {
		v.inUse[uid] = map[corev1.UniqueVolumeName]bool{}
	}
	v.inUse[uid][name] = true
	v.mu.Unlock()
	if v.config.Announce == nil {
		return nil
	}
	if err := v.config.Announce(ctx, name); err != nil {
		return fmt.Errorf("announce that the volume is in use: %w", err)
	}
	return nil
}

// uniqueName names an attachable volume in the node's status, as the attach controller does.
func uniqueName(s *corev1.CSIPersistentVolumeSource) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + s.Driver + "^" + s.VolumeHandle)
}

// accessMode translates the volume's modes. A driver that tells several writers on a node from one is told which it is.
func accessMode(pv *corev1.PersistentVolume, d *csi.Driver) spec.VolumeCapability_AccessMode_Mode {
	tells := d.Can(spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER)
	mode := spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	for _, m := range pv.Spec.AccessModes {
		switch m {
		case corev1.ReadWriteMany:
			return spec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		case corev1.ReadOnlyMany:
			mode = spec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
		case corev1.ReadWriteOnce:
			mode = spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
			if tells {
				mode = spec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
			}
		case corev1.ReadWriteOncePod:
			mode = spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
			if tells {
				mode = spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
			}
		}
	}
	return mode
}

func copyOf(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	maps.Copy(out, m)
	return out
}
