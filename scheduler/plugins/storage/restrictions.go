// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/scheduler/core"
)

// Restrictions keeps pods apart that can't share a disk, and makes a claim of mode ReadWriteOncePod one pod's alone.
type Restrictions struct{}

// Name implements core.Plugin.
func (Restrictions) Name() string { return RestrictionsName }

// Filter implements core.FilterPlugin.
func (Restrictions) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	f := &unshared{pod: pod, alone: map[types.NamespacedName]struct{}{}}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.ISCSI != nil || v.RBD != nil {
			f.disks = append(f.disks, v)
		}
		if v.PersistentVolumeClaim == nil {
			continue
		}
		key := core.Key(pod.Namespace, v.PersistentVolumeClaim.ClaimName)
		claim := s.Claim(key)
		if claim == nil {
			return nil, core.RefuseForGood(RestrictionsName, notFound(key.Name))
		}
		if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			f.alone[key] = struct{}{}
		}
	}
	for key := range f.alone {
		for _, node := range s.Nodes {
			f.users += node.Claims[key]
		}
	}
	if len(f.disks) == 0 && f.users == 0 {
		return nil, nil
	}
	return f, nil
}

// unshared judges nodes for the disks of a pod and its claims that it must have alone.
type unshared struct {
	pod   *core.Pod
	disks []*corev1.Volume
	alone map[types.NamespacedName]struct{}
	users int // mounts of those claims by pods, on whatever node
}

// Check implements core.Filter.
func (f *unshared) Check(node *core.Node) *core.Status {
	if len(f.disks) > 0 {
		for _, pod := range node.Pods {
			for i := range pod.Spec.Volumes {
				if slices.ContainsFunc(f.disks, func(d *corev1.Volume) bool { return conflict(d, &pod.Spec.Volumes[i]) }) {
					return core.Refuse(RestrictionsName, "node(s) had no available disk")
				}
			}
		}
	}
	if f.users > 0 {
		return core.Refuse(RestrictionsName,
			"node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")
	}
	return nil
}

// conflict reports whether two pods can't mount these volumes on one node.
func conflict(a, b *corev1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		return a.GCEPersistentDisk.PDName == b.GCEPersistentDisk.PDName && (!a.GCEPersistentDisk.ReadOnly || !b.GCEPersistentDisk.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		return a.ISCSI.IQN == b.ISCSI.IQN && (!a.ISCSI.ReadOnly || !b.ISCSI.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		shared := slices.ContainsFunc(a.RBD.CephMonitors, func(m string) bool { return slices.Contains(b.RBD.CephMonitors, m) })
		return shared && a.RBD.RBDPool == b.RBD.RBDPool && a.RBD.RBDImage == b.RBD.RBDImage && (!a.RBD.ReadOnly || !b.RBD.ReadOnly)
	}
	return false
}

// Clone implements core.Tracking.
func (f *unshared) Clone() core.Tracking {
	c := *f
	return &c
}

// Added implements core.Tracking.
func (f *unshared) Added(pod *core.Pod, _ *core.Node) { f.change(pod, 1) }

// Removed implements core.Tracking.
func (f *unshared) Removed(pod *core.Pod, _ *core.Node) { f.change(pod, -1) }

func (f *unshared) change(pod *core.Pod, by int) {
	for _, key := range pod.Claims() {
		if _, ok := f.alone[key]; ok {
			f.users += by
		}
	}
}

// Hints implements core.Waker.
func (Restrictions) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.AssignedPods, Actions: core.Delete},
		{Kind: core.Nodes, Actions: core.Add},
		{Kind: core.Claims, Actions: core.Add | core.Update, Wakes: func(pod *core.Pod, e core.Event) bool {
			claim, ok := e.New.(*corev1.PersistentVolumeClaim)
			return ok && slices.Contains(pod.Claims(), core.Key(claim.Namespace, claim.Name))
		}},
	}
}

var _ core.Tracking = (*unshared)(nil)
