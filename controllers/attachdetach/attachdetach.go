// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package attachdetach has CSI drivers attach volumes to the nodes whose pods use them, and detach them afterwards, by way
// of VolumeAttachments, and tells the nodes what is attached.
//
// One key is one node. What should be attached follows from the pods bound to the node; what is attached, from the
// VolumeAttachments. A volume leaves a node in this order:
//
//	no pod uses it ─▶ the kubelet reports it unmounted ─▶ it leaves status.volumesAttached ─▶ its VolumeAttachment is deleted
//
// The second step is skipped for a node out of service, and after six minutes for one that isn't ready.
package attachdetach

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/rules/volumes"
)

// maxUnmountWait is how long a node that isn't ready may keep a volume that no pod uses any more.
const maxUnmountWait = 6 * time.Minute

// Indexes that the loop keeps.
const (
	podsByNode          = "pods by node, with claims"
	podsByClaim         = "pods by claim"
	attachmentsByNode   = "attachments by node"
	attachmentsByVolume = "attachments by volume"
)

type controller struct {
	reconcile.Scope
	loop        *reconcile.Loop
	nodes       *client.Informer[*corev1.Node]
	pods        *client.Informer[*corev1.Pod]
	claims      *client.Informer[*corev1.PersistentVolumeClaim]
	volumes     *client.Informer[*corev1.PersistentVolume]
	drivers     *client.Informer[*storagev1.CSIDriver]
	attachments *client.Informer[*storagev1.VolumeAttachment]
	api         client.Resource[*storagev1.VolumeAttachment]
	nodeAPI     client.Resource[*corev1.Node]

	mu sync.Mutex
	// unwanted is since when a VolumeAttachment has had no user, by its name.
	unwanted map[string]time.Time
	// asked are the VolumeAttachments that were asked for, by a volume that only one node may have, until the view shows them.
	asked map[string]asked
}

// asked is a VolumeAttachment that the view does not show.
type asked struct {
	name string
	made bool // the API server has answered
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope,
		nodes: client.InformerFor[*corev1.Node](scope.Informers), pods: client.InformerFor[*corev1.Pod](scope.Informers),
		claims:  client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers),
		volumes: client.InformerFor[*corev1.PersistentVolume](scope.Informers),
		drivers: client.InformerFor[*storagev1.CSIDriver](scope.Informers), attachments: client.InformerFor[*storagev1.VolumeAttachment](scope.Informers),
		api: client.Of[*storagev1.VolumeAttachment](scope.Client), nodeAPI: client.Of[*corev1.Node](scope.Client), unwanted: map[string]time.Time{},
		asked: map[string]asked{},
	}
	c.loop = reconcile.New(reconcile.Config{
		Name: "attachdetach-controller", Log: scope.Log, Workers: 4, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.index()
	reconcile.Self(c.loop, c.nodes)
	reconcile.On(c.loop, c.pods, nodeOfPod)
	reconcile.On(c.loop, c.claims, func(claim *corev1.PersistentVolumeClaim) []reconcile.Key {
		return c.nodesOfClaim(reconcile.KeyOf(claim))
	})
	reconcile.On(c.loop, c.volumes, c.nodesOfVolume)
	c.attachments.Handle(client.Handler[*storagev1.VolumeAttachment]{Add: func(a *storagev1.VolumeAttachment) {
		if name := a.Spec.Source.PersistentVolumeName; name != nil {
			c.answered(*name, a.Name)
		}
	}})
	reconcile.On(c.loop, c.attachments, c.nodesOfAttachment)
	reconcile.On(c.loop, c.drivers, func(*storagev1.CSIDriver) []reconcile.Key {
		var keys []reconcile.Key
		for node := range c.nodes.All() {
			keys = append(keys, reconcile.KeyOf(node))
		}
		return keys
	})
	return c.loop
}

func (c *controller) index() {
	c.pods.AddIndex(podsByNode, func(pod *corev1.Pod) []string {
		if len(nodeOfPod(pod)) == 0 {
			return nil
		}
		return []string{pod.Spec.NodeName}
	})
	c.pods.AddIndex(podsByClaim, func(pod *corev1.Pod) []string {
		var names []string
		for _, key := range volumes.ClaimsOf(pod) {
			names = append(names, key.String())
		}
		return names
	})
	c.attachments.AddIndex(attachmentsByNode, func(a *storagev1.VolumeAttachment) []string { return []string{a.Spec.NodeName} })
	c.attachments.AddIndex(attachmentsByVolume, func(a *storagev1.VolumeAttachment) []string {
		if a.Spec.Source.PersistentVolumeName == nil {
			return nil
		}
		return []string{*a.Spec.Source.PersistentVolumeName}
	})
}

// nodeOfPod wakes a pod's node if the pod may need something attached.
func nodeOfPod(pod *corev1.Pod) []reconcile.Key {
	if pod.Spec.NodeName == "" || len(volumes.ClaimsOf(pod)) == 0 {
		return nil
	}
	return []reconcile.Key{{Name: pod.Spec.NodeName}}
}

func (c *controller) nodesOfClaim(claim reconcile.Key) []reconcile.Key {
	var keys []reconcile.Key
	for _, pod := range c.pods.ByIndex(podsByClaim, claim.String()) {
		keys = append(keys, nodeOfPod(pod)...)
	}
	return keys
}

func (c *controller) nodesOfVolume(pv *corev1.PersistentVolume) []reconcile.Key {
	if pv.Spec.CSI == nil || pv.Spec.ClaimRef == nil {
		return nil
	}
	return c.nodesOfClaim(reconcile.Key{Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name})
}

// nodesOfAttachment also wakes the nodes that wait for a volume that only one node may have.
func (c *controller) nodesOfAttachment(a *storagev1.VolumeAttachment) []reconcile.Key {
	keys := []reconcile.Key{{Name: a.Spec.NodeName}}
	if name := a.Spec.Source.PersistentVolumeName; name != nil {
		if pv, ok := c.volumes.Get("", *name); ok {
			keys = append(keys, c.nodesOfVolume(pv)...)
		}
	}
	return keys
}

// wish is a volume that pods of a node use.
type wish struct {
	pv   *corev1.PersistentVolume
	pods []*corev1.Pod
}

// wishes returns what should be attached to a node, by the name of the VolumeAttachment.
func (c *controller) wishes(node string) map[string]*wish {
	out := map[string]*wish{}
	for _, pod := range c.pods.ByIndex(podsByNode, node) {
		if pods.IsFinished(pod) {
			continue
		}
		for _, key := range volumes.ClaimsOf(pod) {
			claim, ok := c.claims.Get(key.Namespace, key.Name)
			if !ok || !volumes.IsBound(claim) {
				continue
			}
			pv, ok := c.volumes.Get("", claim.Spec.VolumeName)
			if !ok || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID || !c.attachable(pv) {
				continue
			}
			name := attachmentName(pv.Spec.CSI, node)
			if out[name] == nil {
				out[name] = &wish{pv: pv}
			}
			out[name].pods = append(out[name].pods, pod)
		}
	}
	return out
}

// attachable reports whether a volume's driver wants to attach it. A driver without a CSIDriver object does.
func (c *controller) attachable(pv *corev1.PersistentVolume) bool {
	if pv.Spec.CSI == nil {
		return false
	}
	driver, ok := c.drivers.Get("", pv.Spec.CSI.Driver)
	return !ok || driver.Spec.AttachRequired == nil || *driver.Spec.AttachRequired
}

// attachmentName is what kubelet and controller call an attachment without talking to each other.
func attachmentName(s *corev1.CSIPersistentVolumeSource, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(s.VolumeHandle+s.Driver+node)))
}

// uniqueName is what the node's status calls a volume.
func uniqueName(s *corev1.CSIPersistentVolumeSource) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + s.Driver + "^" + s.VolumeHandle)
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	wanted := c.wishes(key.Name)
	node, known := c.nodes.Get("", key.Name)
	if !known {
		node = nil
	}
	var attached []corev1.AttachedVolume
	var leaving []*storagev1.VolumeAttachment
	wait := time.Duration(0)
	fresh := sync.OnceValues(func() (*corev1.Node, error) { return c.nodeAPI.Get(ctx, "", key.Name) })
	for _, a := range c.attachments.ByIndex(attachmentsByNode, key.Name) {
		pv := c.volumeOf(a)
		if pv == nil {
			continue // not one of this loop's
		}
		if wanted[a.Name] != nil {
			c.keep(a)
		} else {
			left, err := c.surelyMayLeave(a, pv, node, fresh)
			if err != nil {
				return err
			}
			if left == 0 {
				leaving = append(leaving, a)
				continue
			}
			if left > 0 && (wait == 0 || left < wait) {
				wait = left
			}
		}
		if a.Status.Attached && a.DeletionTimestamp == nil {
			attached = append(attached, corev1.AttachedVolume{Name: uniqueName(pv.Spec.CSI)})
		}
	}
	if err := c.tell(ctx, node, attached); err != nil {
		return err
	}
	if err := errors.Join(c.detach(ctx, leaving), c.attachAll(ctx, node, wanted)); err != nil {
		return err
	}
	if wait > 0 {
		return reconcile.After(wait)
	}
	return nil
}

// attachAll attaches what is wanted on a node, if there is one.
func (c *controller) attachAll(ctx context.Context, node *corev1.Node, wanted map[string]*wish) error {
	if node == nil {
		return nil
	}
	var errs []error
	for name, w := range wanted {
		errs = append(errs, c.attach(ctx, node, name, w))
	}
	return errors.Join(errs...)
}

// volumeOf returns the volume of an attachment that this loop made, and nil for others.
func (c *controller) volumeOf(a *storagev1.VolumeAttachment) *corev1.PersistentVolume {
	if a.Spec.Source.PersistentVolumeName == nil {
		return nil
	}
	pv, ok := c.volumes.Get("", *a.Spec.Source.PersistentVolumeName)
	if !ok || pv.Spec.CSI == nil || attachmentName(pv.Spec.CSI, a.Spec.NodeName) != a.Name {
		return nil
	}
	return pv
}

func (c *controller) keep(a *storagev1.VolumeAttachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unwanted, a.Name)
}

// surelyMayLeave is mayLeave, asked once more about the node as the API server has it: what is mounted is seen on the node's
// status, and the informer's view of that may lag behind the pods'.
func (c *controller) surelyMayLeave(a *storagev1.VolumeAttachment, pv *corev1.PersistentVolume, node *corev1.Node, fresh func() (*corev1.Node, error)) (time.Duration, error) {
	left := c.mayLeave(a, pv, node)
	if left != 0 || node == nil {
		return left, nil
	}
	now, err := fresh()
	if err != nil {
		return 0, fmt.Errorf("volumes in use on %s: %w", node.Name, err)
	}
	return c.mayLeave(a, pv, now), nil
}

// mayLeave returns 0 when a volume may be detached now, how long to wait for a node that isn't ready, or -1 to wait for the
// node to unmount it.
func (c *controller) mayLeave(a *storagev1.VolumeAttachment, pv *corev1.PersistentVolume, node *corev1.Node) time.Duration {
	c.mu.Lock()
	since, known := c.unwanted[a.Name]
	if !known {
		since = time.Now()
		c.unwanted[a.Name] = since
	}
	c.mu.Unlock()
	left := max(time.Until(since.Add(maxUnmountWait)), 0)
	if node == nil {
		return left
	}
	if !slices.Contains(node.Status.VolumesInUse, uniqueName(pv.Spec.CSI)) || outOfService(node) {
		return 0
	}
	if isReady(node) {
		return -1
	}
	return left
}

func outOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func isReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// detach deletes attachments; the driver's attacher then detaches, and lets them go.
func (c *controller) detach(ctx context.Context, all []*storagev1.VolumeAttachment) error {
	var errs []error
	for _, a := range all {
		if a.DeletionTimestamp == nil {
			err := c.api.Delete(ctx, "", a.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &a.UID}})
			if client.IgnoreNotFound(err) != nil {
				errs = append(errs, fmt.Errorf("detach from %s: %w", a.Spec.NodeName, err))
				continue
			}
		}
		c.keep(a)
	}
	return errors.Join(errs...)
}

// attach asks for an attachment that isn't there and says how one that is there comes along.
func (c *controller) attach(ctx context.Context, node *corev1.Node, name string, w *wish) error {
	if a, ok := c.attachments.Get("", name); ok {
		if fail := a.Status.AttachError; fail != nil && !a.Status.Attached {
			c.about(w, corev1.EventTypeWarning, "FailedAttachVolume", "AttachVolume.Attach failed for volume %q : %s", w.pv.Name, fail.Message)
		}
		return nil
	}
	if !shared(w.pv) {
		if err := c.ask(ctx, w.pv.Name, name); err != nil {
			return err
		}
		// Looked at afterwards: an attachment that is not asked for any more is seen.
		if c.elsewhere(w.pv, node.Name) {
			c.answered(w.pv.Name, name)
			c.about(w, corev1.EventTypeWarning, "FailedAttachVolume",
				"Multi-Attach error for volume %q Volume is already exclusively attached to one node and can't be attached to another", w.pv.Name)
			return nil
		}
	}
	_, err := c.api.Create(ctx, &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: w.pv.Spec.CSI.Driver, NodeName: node.Name, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &w.pv.Name},
		},
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		c.answered(w.pv.Name, name)
		return fmt.Errorf("attach volume %s to %s: %w", w.pv.Name, node.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[w.pv.Name].name == name {
		c.asked[w.pv.Name] = asked{name: name, made: true}
	}
	return nil
}

// ask notes that a volume's attachment is about to be asked for, unless another one was that the view does not show yet.
func (c *controller) ask(ctx context.Context, pv, name string) error {
	c.mu.Lock()
	other, known := c.asked[pv]
	if !known {
		c.asked[pv] = asked{name: name}
	}
	c.mu.Unlock()
	if !known || other.name == name {
		return nil
	}
	if other.made {
		if _, err := c.api.Get(ctx, "", other.name); apierrors.IsNotFound(err) { // A new list may never show that it was there.
			c.answered(pv, other.name)
		}
	}
	return fmt.Errorf("volume %s is being attached by %s", pv, other.name) // tried again until that is seen
}

// answered forgets that an attachment was asked for.
func (c *controller) answered(pv, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[pv].name == name {
		delete(c.asked, pv)
	}
}

// shared reports whether several nodes may have a volume at a time.
func shared(pv *corev1.PersistentVolume) bool {
	return len(pv.Spec.AccessModes) == 0 || slices.Contains(pv.Spec.AccessModes, corev1.ReadWriteMany) ||
		slices.Contains(pv.Spec.AccessModes, corev1.ReadOnlyMany)
}

func (c *controller) elsewhere(pv *corev1.PersistentVolume, node string) bool {
	return slices.ContainsFunc(c.attachments.ByIndex(attachmentsByVolume, pv.Name), func(a *storagev1.VolumeAttachment) bool {
		return a.Spec.NodeName != node
	})
}

func (c *controller) about(w *wish, kind, reason, format string, args ...any) {
	for _, pod := range w.pods {
		c.Events.Event(pod, kind, reason, format, args...)
	}
}
