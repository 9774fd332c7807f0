// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package localvolume provisions volumes from folders of the nodes: the provisioner kogge.dev/local of the default
// StorageClass. It speaks the protocol of external provisioners, so that the binder treats it like any other.
//
// The folder is made and removed by the node itself (package nodeside), which says in annotations of its Node object where
// its folders are and which volumes it holds:
//
//	claim asks, with a node ─▶ PersistentVolume, bound to node and claim ─▶ the node makes the folder
//	claim is gone, Released ─▶ the node removes the folder ─▶ its annotation no longer names it ─▶ the volume is deleted
//
// A node that is down keeps its released volumes until it is back or its Node object is deleted.
// The size of a claim is written down but not enforced: all volumes of a node share the file system they lie in.
package localvolume

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/localvolume/nodeside"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/volumes"
)

// Name is the controller's and its service account's name.
const Name = "local-volume-provisioner"

// finalizer keeps a volume's object until its folder is gone.
const finalizer = "kogge.dev/local-volume"

// class is the StorageClass that every cluster begins with.
const class = "local"

// EnsureClass makes the StorageClass unless there is one of that name: what an administrator changed, stays.
func EnsureClass(ctx context.Context, c *client.Client) error {
	mode, reclaim := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	_, err := client.Of[*storagev1.StorageClass](c).Create(ctx, &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: class, Annotations: map[string]string{volumes.DefaultClass: "true"}},
		Provisioner: nodeside.Provisioner, VolumeBindingMode: &mode, ReclaimPolicy: &reclaim,
	})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

type controller struct {
	reconcile.Scope
	claims  *client.Informer[*corev1.PersistentVolumeClaim]
	volumes *client.Informer[*corev1.PersistentVolume]
	classes *client.Informer[*storagev1.StorageClass]
	nodes   *client.Informer[*corev1.Node]
	api     client.Resource[*corev1.PersistentVolume]
	claim   client.Resource[*corev1.PersistentVolumeClaim]
	node    client.Resource[*corev1.Node]
}

// Indexes: the provisioner's volumes by the node that holds them, and the claims that ask for one, all under the empty value.
const (
	byNode   = "local volumes by node"
	byAsking = "claims that ask for a local volume"
)

// New makes the loop. Its keys are those of claims and, without a namespace, of volumes.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope:   scope,
		claims:  client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers),
		volumes: client.InformerFor[*corev1.PersistentVolume](scope.Informers),
		classes: client.InformerFor[*storagev1.StorageClass](scope.Informers),
		nodes:   client.InformerFor[*corev1.Node](scope.Informers),
		api:     client.Of[*corev1.PersistentVolume](scope.Client), claim: client.Of[*corev1.PersistentVolumeClaim](scope.Client),
		node: client.Of[*corev1.Node](scope.Client),
	}
	c.volumes.AddIndex(byNode, func(pv *corev1.PersistentVolume) []string {
		if node, ours := nodeside.NodeOf(pv); ours {
			return []string{node}
		}
		return nil
	})
	c.claims.AddIndex(byAsking, func(claim *corev1.PersistentVolumeClaim) []string {
		if asks(claim) {
			return []string{""}
		}
		return nil
	})
	loop := reconcile.New(reconcile.Config{Name: Name, Log: scope.Log, Workers: 2, Informers: scope.Informers, Reconcile: c.reconcile})
	reconcile.On(loop, c.claims, func(claim *corev1.PersistentVolumeClaim) []reconcile.Key {
		if claim.Annotations[volumes.Provisioner] != nodeside.Provisioner || claim.Spec.VolumeName != "" {
			return nil
		}
		return []reconcile.Key{reconcile.KeyOf(claim)}
	})
	reconcile.On(loop, c.volumes, func(pv *corev1.PersistentVolume) []reconcile.Key {
		if _, ours := nodeside.NodeOf(pv); !ours {
			return nil
		}
		return []reconcile.Key{reconcile.KeyOf(pv)}
	})
	reconcile.On(loop, c.classes, func(class *storagev1.StorageClass) []reconcile.Key {
		var keys []reconcile.Key
		for _, claim := range c.claims.ByIndex(byAsking, "") {
			if volumes.ClaimClass(claim) == class.Name {
				keys = append(keys, reconcile.KeyOf(claim))
			}
		}
		return keys
	})
	c.nodes.Handle(client.Handler[*corev1.Node]{
		Add: func(node *corev1.Node) { loop.Enqueue(c.waiting(node)...) },
		Update: func(old, node *corev1.Node) {
			if old.Annotations[nodeside.HeldAnnotation] != node.Annotations[nodeside.HeldAnnotation] {
				loop.Enqueue(c.on(node)...)
			}
			if offers(old) != offers(node) || !maps.Equal(old.Labels, node.Labels) {
				loop.Enqueue(c.waiting(node)...)
			}
		},
		Delete: func(node *corev1.Node) { loop.Enqueue(c.on(node)...) },
	})
	return loop
}

func (c *controller) on(node *corev1.Node) []reconcile.Key {
	var keys []reconcile.Key
	for _, pv := range c.volumes.ByIndex(byNode, node.Name) {
		keys = append(keys, reconcile.KeyOf(pv))
	}
	return keys
}

func (c *controller) waiting(node *corev1.Node) []reconcile.Key {
	var keys []reconcile.Key
	for _, claim := range c.claims.ByIndex(byAsking, "") {
		if chosen := claim.Annotations[volumes.SelectedNode]; chosen == "" || chosen == node.Name {
			keys = append(keys, reconcile.KeyOf(claim))
		}
	}
	return keys
}

func asks(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[volumes.Provisioner] == nodeside.Provisioner && claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	if key.Namespace == "" {
		if pv, ok := c.volumes.Get("", key.Name); ok {
			return client.IgnoreNotFound(c.finish(ctx, pv))
		}
		return nil
	}
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok || !asks(claim) {
		return nil
	}
	return c.provision(ctx, claim)
}

// provision makes the volume of a claim.
func (c *controller) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	name := "pvc-" + string(claim.UID)
	if _, ok := c.volumes.Get("", name); ok {
		return nil
	}
	class, ok := c.classes.Get("", volumes.ClaimClass(claim))
	if !ok {
		return nil // the binder reports it
	}
	if reason := refusal(claim, class); reason != "" {
		c.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %s", class.Name, reason)
		return nil
	}
	node, err := c.place(ctx, claim, class)
	if node == nil || err != nil {
		return err
	}
	_, err = c.api.Create(ctx, volume(name, claim, class, node))
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case err != nil:
		c.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class.Name, err)
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	c.Events.Event(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", name)
	return nil
}

// refusal says what a claim asks for that folders can't do.
func refusal(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) string {
	switch {
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return "local volumes are folders, not block devices"
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return "local volumes can't be made from a data source"
	case claim.Spec.Selector != nil:
		return "claim.Spec.Selector is not supported"
	case len(class.Parameters) > 0:
		return "the class has parameters, and local volumes know none"
	}
	return ""
}

// place returns the node that is to hold a claim's volume, or nil if there is none now: the one the scheduler chose or,
// where the class doesn't wait for a pod, the one that holds the fewest.
func (c *controller) place(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) (*corev1.Node, error) {
	chosen := claim.Annotations[volumes.SelectedNode]
	if chosen == "" && volumes.Waits(class) {
		return nil, nil
	}
	if chosen != "" {
		node, ok := c.nodes.Get("", chosen)
		if !ok || node.Annotations[nodeside.RootAnnotation] == "" {
			var err error
			if node, err = c.nodeNow(ctx, chosen); err != nil {
				return nil, err
			}
		}
		if node != nil && node.Annotations[nodeside.RootAnnotation] != "" {
			return node, nil
		}
		// The scheduler chooses again once its choice is taken off.
		c.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed",
			"failed to provision volume with StorageClass %q: node %q offers no local volumes", class.Name, chosen)
		next := claim.DeepCopy()
		delete(next.Annotations, volumes.SelectedNode)
		if _, err := c.claim.Update(ctx, next); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("ask for another node for %s: %w", reconcile.KeyOf(claim), err)
		}
		return nil, nil
	}
	var best *corev1.Node
	for node := range c.nodes.All() {
		if !offers(node) || !allowed(class, node) {
			continue
		}
		if best == nil || c.less(node, best) {
			best = node
		}
	}
	if best == nil {
		c.Events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed",
			"failed to provision volume with StorageClass %q: no node offers local volumes", class.Name)
	}
	return best, nil
}

// offers tells whether a node takes volumes that may lie anywhere.
func offers(node *corev1.Node) bool {
	return node.Annotations[nodeside.RootAnnotation] != "" && !node.Spec.Unschedulable && ready(node)
}

func (c *controller) less(a, b *corev1.Node) bool {
	here, there := len(c.volumes.ByIndex(byNode, a.Name)), len(c.volumes.ByIndex(byNode, b.Name))
	if here != there {
		return here < there
	}
	return a.Name < b.Name
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// allowed follows the class's allowedTopologies: one of the terms, and of it every label.
func allowed(class *storagev1.StorageClass, node *corev1.Node) bool {
	if len(class.AllowedTopologies) == 0 {
		return true
	}
	return slices.ContainsFunc(class.AllowedTopologies, func(term corev1.TopologySelectorTerm) bool {
		for _, want := range term.MatchLabelExpressions {
			if !slices.Contains(want.Values, node.Labels[want.Key]) {
				return false
			}
		}
		return true
	})
}

func volume(name string, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) *corev1.PersistentVolume {
	mode, policy := corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	host := node.Labels[corev1.LabelHostname]
	if host == "" {
		host = node.Name
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Finalizers: []string{finalizer},
			Annotations: map[string]string{volumes.ProvisionedBy: nodeside.Provisioner, nodeside.NodeAnnotation: node.Name},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: claim.Spec.AccessModes, VolumeMode: &mode, PersistentVolumeReclaimPolicy: policy, StorageClassName: class.Name,
			MountOptions: class.MountOptions,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: filepath.Join(node.Annotations[nodeside.RootAnnotation], name)},
			},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
				ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}},
			}}}},
		},
	}
}

// finish deletes a volume that was released, and lets go of one that is being deleted, once its folder is gone.
func (c *controller) finish(ctx context.Context, pv *corev1.PersistentVolume) error {
	if nodeside.Doomed(pv) {
		if gone, err := c.gone(ctx, pv); !gone || err != nil {
			return err
		}
		if pv.DeletionTimestamp == nil {
			return c.api.Delete(ctx, "", pv.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pv.UID}})
		}
	}
	// A volume that is retained leaves its folder behind; one that is bound waits for its claim.
	retained := pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete
	if pv.DeletionTimestamp == nil || !slices.Contains(pv.Finalizers, finalizer) || !retained && !nodeside.Doomed(pv) {
		return nil
	}
	next := pv.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
	if _, err := c.api.Update(ctx, next); err != nil {
		return fmt.Errorf("let go of volume %s: %w", pv.Name, err)
	}
	return nil
}

// gone reports whether a volume's node holds it no longer, or is no more itself. What a node says of itself wakes the loop again, but a new list
// may show of a node that held the volume for a moment neither its begin nor its end.
func (c *controller) gone(ctx context.Context, pv *corev1.PersistentVolume) (bool, error) {
	name, _ := nodeside.NodeOf(pv)
	if node, ok := c.nodes.Get("", name); ok && nodeside.Holds(node, pv.Name) {
		return false, nil
	}
	node, err := c.nodeNow(ctx, name)
	if err == nil && node != nil && nodeside.Holds(node, pv.Name) {
		err = reconcile.Unseen()
	}
	return err == nil, err
}

// nodeNow reads a node from the API server; nil if there is none. The view of nodes may be behind those of claims and volumes: what it does not show is
// no reason yet to refuse a node, or to let go of a volume, whose folder nobody would remove.
func (c *controller) nodeNow(ctx context.Context, name string) (*corev1.Node, error) {
	node, err := c.node.Get(ctx, "", name)
	return node, client.IgnoreNotFound(err)
}
