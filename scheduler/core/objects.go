// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/rules/volumes"
)

// Objects are the API objects besides nodes and pods that decisions depend on. Those that State owns are changed by Put
// and Drop only.
type Objects struct {
	namespaces map[string]*corev1.Namespace
	// namespacesVersion grows with every change of a namespace.
	namespacesVersion uint64
	claims            map[types.NamespacedName]*corev1.PersistentVolumeClaim
	volumes           map[string]*corev1.PersistentVolume
	classes           map[string]*storagev1.StorageClass
	csiNodes          map[string]*storagev1.CSINode
	drivers           map[string]*storagev1.CSIDriver
	capacities        map[types.NamespacedName]*storagev1.CSIStorageCapacity
	attached          map[string]*storagev1.VolumeAttachment
	budgets           map[types.NamespacedName]*policyv1.PodDisruptionBudget
	services          map[types.NamespacedName]*corev1.Service
	owners            map[types.NamespacedName]map[string]labels.Selector // selectors of workloads by key and kind

	devices devices

	// What was decided about volumes and claims and is not yet seen in the API.
	assumedClaims  map[types.NamespacedName]*corev1.PersistentVolumeClaim
	assumedVolumes map[string]*corev1.PersistentVolume
}

func newObjects() *Objects {
	return &Objects{
		namespaces: map[string]*corev1.Namespace{}, claims: map[types.NamespacedName]*corev1.PersistentVolumeClaim{},
		volumes: map[string]*corev1.PersistentVolume{}, classes: map[string]*storagev1.StorageClass{}, csiNodes: map[string]*storagev1.CSINode{},
		devices: newDevices(), attached: map[string]*storagev1.VolumeAttachment{}, drivers: map[string]*storagev1.CSIDriver{}, capacities: map[types.NamespacedName]*storagev1.CSIStorageCapacity{},
		budgets: map[types.NamespacedName]*policyv1.PodDisruptionBudget{}, services: map[types.NamespacedName]*corev1.Service{},
		owners:        map[types.NamespacedName]map[string]labels.Selector{},
		assumedClaims: map[types.NamespacedName]*corev1.PersistentVolumeClaim{}, assumedVolumes: map[string]*corev1.PersistentVolume{},
	}
}

// Put takes in an object, new or changed, of any kind but nodes and pods; kinds that decisions don't depend on are
// ignored.
func (o *Objects) Put(object metav1.Object) []Event {
	key := types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
	switch obj := object.(type) {
	case *corev1.Namespace:
		o.namespacesVersion++
		return put(o.namespaces, Namespaces, key.Name, obj)
	case *corev1.PersistentVolumeClaim:
		delete(o.assumedClaims, key)
		return put(o.claims, Claims, key, obj)
	case *corev1.PersistentVolume:
		delete(o.assumedVolumes, key.Name)
		return put(o.volumes, Volumes, key.Name, obj)
	case *storagev1.StorageClass:
		return put(o.classes, Classes, key.Name, obj)
	case *storagev1.CSINode:
		return put(o.csiNodes, CSINodes, key.Name, obj)
	case *storagev1.CSIDriver:
		return put(o.drivers, CSIDrivers, key.Name, obj)
	case *storagev1.CSIStorageCapacity:
		return put(o.capacities, Capacities, key, obj)
	case *storagev1.VolumeAttachment:
		return put(o.attached, Attachments, key.Name, obj)
	case *resourcev1.ResourceClaim:
		return o.devices.putClaim(key, obj)
	case *resourcev1.DeviceClass:
		return put(o.devices.classes, DeviceClasses, key.Name, obj)
	case *resourcev1.ResourceSlice:
		return put(o.devices.slices, DeviceSlices, key.Name, obj)
	case *policyv1.PodDisruptionBudget:
		put(o.budgets, Budgets, key, obj)
	case *corev1.Service:
		put(o.services, otherObjects, key, obj)
	default:
		o.putOwner(key, object)
	}
	return nil
}

// Drop forgets an object.
func (o *Objects) Drop(object metav1.Object) []Event {
	key := types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
	switch object.(type) {
	case *corev1.Namespace:
		o.namespacesVersion++
		return dropped(o.namespaces, Namespaces, key.Name)
	case *corev1.PersistentVolumeClaim:
		delete(o.assumedClaims, key)
		return dropped(o.claims, Claims, key)
	case *corev1.PersistentVolume:
		delete(o.assumedVolumes, key.Name)
		return dropped(o.volumes, Volumes, key.Name)
	case *storagev1.StorageClass:
		return dropped(o.classes, Classes, key.Name)
	case *storagev1.CSINode:
		return dropped(o.csiNodes, CSINodes, key.Name)
	case *storagev1.CSIDriver:
		return dropped(o.drivers, CSIDrivers, key.Name)
	case *storagev1.CSIStorageCapacity:
		return dropped(o.capacities, Capacities, key)
	case *storagev1.VolumeAttachment:
		return dropped(o.attached, Attachments, key.Name)
	case *resourcev1.ResourceClaim:
		delete(o.devices.assumed, key)
		return dropped(o.devices.claims, DeviceClaims, key)
	case *resourcev1.DeviceClass:
		return dropped(o.devices.classes, DeviceClasses, key.Name)
	case *resourcev1.ResourceSlice:
		return dropped(o.devices.slices, DeviceSlices, key.Name)
	case *policyv1.PodDisruptionBudget:
		dropped(o.budgets, Budgets, key)
	case *corev1.Service:
		dropped(o.services, otherObjects, key)
	default:
		if kind, _ := ownerSelector(object); kind != "" {
			delete(o.owners[key], kind)
			if len(o.owners[key]) == 0 {
				delete(o.owners, key)
			}
		}
	}
	return nil
}

func put[K comparable, T any](m map[K]T, kind Kind, key K, obj T) []Event {
	old, had := m[key]
	m[key] = obj
	if !had {
		return []Event{{Kind: kind, Action: Add, New: obj}}
	}
	return []Event{{Kind: kind, Action: Update, Old: old, New: obj}}
}

func dropped[K comparable, T any](m map[K]T, kind Kind, key K) []Event {
	old, had := m[key]
	if !had {
		return nil
	}
	delete(m, key)
	return []Event{{Kind: kind, Action: Delete, Old: old}}
}

func (o *Objects) putOwner(key types.NamespacedName, object metav1.Object) {
	kind, selector := ownerSelector(object)
	if kind == "" {
		return
	}
	if o.owners[key] == nil {
		o.owners[key] = map[string]labels.Selector{}
	}
	o.owners[key][kind] = selector
}

// ownerSelector returns the kind and the selector of a workload's pods.
func ownerSelector(object metav1.Object) (string, labels.Selector) {
	var in *metav1.LabelSelector
	var kind string
	switch obj := object.(type) {
	case *corev1.ReplicationController:
		if len(obj.Spec.Selector) == 0 {
			return "ReplicationController", labels.Nothing()
		}
		return "ReplicationController", labels.SelectorFromSet(obj.Spec.Selector)
	case *appsv1.ReplicaSet:
		kind, in = "ReplicaSet", obj.Spec.Selector
	case *appsv1.StatefulSet:
		kind, in = "StatefulSet", obj.Spec.Selector
	default:
		return "", nil
	}
	selector, err := metav1.LabelSelectorAsSelector(in)
	if err != nil {
		return kind, labels.Nothing()
	}
	return kind, selector
}

// NamespaceLabels returns the labels of a namespace.
func (o *Objects) NamespaceLabels(name string) labels.Set {
	if ns := o.namespaces[name]; ns != nil {
		return ns.Labels
	}
	return nil
}

// Key names an object of a namespace.
func Key(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// Claim returns a claim, as decided if that is newer than seen, or nil.
func (o *Objects) Claim(key types.NamespacedName) *corev1.PersistentVolumeClaim {
	if c := o.assumedClaims[key]; c != nil {
		return c
	}
	return o.claims[key]
}

// Volume returns a persistent volume, as decided if that is newer than seen, or nil.
func (o *Objects) Volume(name string) *corev1.PersistentVolume {
	if v := o.assumedVolumes[name]; v != nil {
		return v
	}
	return o.volumes[name]
}

// VolumesOf returns the persistent volumes of a class, ordered by name.
func (o *Objects) VolumesOf(class string) []*corev1.PersistentVolume {
	var out []*corev1.PersistentVolume
	for name, v := range o.volumes {
		if volumes.VolumeClass(v) == class {
			out = append(out, o.Volume(name))
		}
	}
	slices.SortFunc(out, func(a, b *corev1.PersistentVolume) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Class returns a storage class, or nil.
func (o *Objects) Class(name string) *storagev1.StorageClass { return o.classes[name] }

// CSINode returns what drivers said of a node, or nil.
func (o *Objects) CSINode(name string) *storagev1.CSINode { return o.csiNodes[name] }

// CSIDriver returns a driver, or nil.
func (o *Objects) CSIDriver(name string) *storagev1.CSIDriver { return o.drivers[name] }

// Capacities returns what is known of free storage, in no order.
func (o *Objects) Capacities() []*storagev1.CSIStorageCapacity {
	out := make([]*storagev1.CSIStorageCapacity, 0, len(o.capacities))
	for _, c := range o.capacities {
		out = append(out, c)
	}
	return out
}

// AttachedTo returns the names of the persistent volumes that are attached to a node, by driver.
func (o *Objects) AttachedTo(node string) map[string][]string {
	out := map[string][]string{}
	for _, a := range o.attached {
		if a.Spec.NodeName == node && a.Spec.Source.PersistentVolumeName != nil {
			out[a.Spec.Attacher] = append(out[a.Spec.Attacher], *a.Spec.Source.PersistentVolumeName)
		}
	}
	return out
}

// Budgets returns the disruption budgets of a namespace, ordered by name.
func (o *Objects) Budgets(namespace string) []*policyv1.PodDisruptionBudget {
	var out []*policyv1.PodDisruptionBudget
	for key, b := range o.budgets {
		if key.Namespace == namespace {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b *policyv1.PodDisruptionBudget) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Kin returns what selects the pods that serve the same purpose: the Services that select the pod and the workload that
// owns it, joined. It selects nothing if there are none.
func (o *Objects) Kin(pod *Pod) labels.Selector {
	set := labels.Set{}
	for key, service := range o.services {
		if key.Namespace != pod.Namespace || len(service.Spec.Selector) == 0 {
			continue
		}
		if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			set = labels.Merge(set, service.Spec.Selector)
		}
	}
	selector := labels.SelectorFromSet(set)
	if owner := metav1.GetControllerOf(pod.Pod); owner != nil {
		key := types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}
		if own := o.owners[key][owner.Kind]; own != nil {
			if requirements, ok := own.Requirements(); ok {
				selector = selector.Add(requirements...)
			}
		}
	}
	if selector.Empty() {
		return labels.Nothing()
	}
	return selector
}

func (o *Objects) assume(plan *Plan) {
	for _, v := range plan.Volumes {
		o.assumedVolumes[v.Name] = v
	}
	for _, c := range plan.Claims {
		o.assumedClaims[types.NamespacedName{Namespace: c.Namespace, Name: c.Name}] = c
	}
	for _, c := range plan.DeviceClaims {
		o.devices.assumed[Key(c.Namespace, c.Name)] = c
	}
}

func (o *Objects) restore(plan *Plan) {
	for _, v := range plan.Volumes {
		if o.assumedVolumes[v.Name] == v {
			delete(o.assumedVolumes, v.Name)
		}
	}
	for _, c := range plan.Claims {
		key := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
		if o.assumedClaims[key] == c {
			delete(o.assumedClaims, key)
		}
	}
	for _, c := range plan.DeviceClaims {
		if key := Key(c.Namespace, c.Name); o.devices.assumed[key] == c {
			delete(o.devices.assumed, key)
		}
	}
}
