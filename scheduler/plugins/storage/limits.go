// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/scheduler/core"
)

// Limits keeps a node's volumes within what its CSI drivers can attach there.
type Limits struct{}

// Name implements core.Plugin.
func (Limits) Name() string { return LimitsName }

// Filter implements core.FilterPlugin.
func (Limits) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	if len(pod.Claims()) == 0 {
		return nil, nil
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil && s.Claim(core.Key(pod.Namespace, v.PersistentVolumeClaim.ClaimName)) == nil {
			return nil, core.RefuseForGood(LimitsName, notFound(v.PersistentVolumeClaim.ClaimName))
		}
	}
	f := &limited{snapshot: s, wanted: driverVolumes(s, pod)}
	if len(f.wanted) == 0 {
		return nil, nil
	}
	return f, nil
}

// driverVolumes returns the volumes of a pod by CSI driver: the handle of one that exists, the claim of one that does not
// yet.
func driverVolumes(s *core.Snapshot, pod *core.Pod) map[string]sets.Set[string] {
	out := map[string]sets.Set[string]{}
	add := func(driver, volume string) {
		if out[driver] == nil {
			out[driver] = sets.Set[string]{}
		}
		out[driver].Insert(volume)
	}
	for _, key := range pod.Claims() {
		claim := s.Claim(key)
		if claim == nil {
			continue
		}
		if pv := s.Volume(claim.Spec.VolumeName); claim.Spec.VolumeName != "" && pv != nil {
			if pv.Spec.CSI != nil {
				add(pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle)
			}
			continue
		}
		if class := s.Class(volumes.ClaimClass(claim)); class != nil && s.CSIDriver(class.Provisioner) != nil {
			add(class.Provisioner, "claim "+key.String())
		}
	}
	return out
}

type limited struct {
	snapshot *core.Snapshot
	wanted   map[string]sets.Set[string]
}

// Check implements core.Filter.
func (f *limited) Check(node *core.Node) *core.Status {
	csiNode := f.snapshot.CSINode(node.Name)
	if csiNode == nil {
		return nil
	}
	for driver, wanted := range f.wanted {
		limit, ok := limitOf(csiNode, driver)
		if !ok {
			continue
		}
		attached := sets.Set[string]{}
		for _, pod := range node.Pods {
			if len(pod.Claims()) > 0 {
				attached = attached.Union(driverVolumes(f.snapshot, pod)[driver])
			}
		}
		for _, name := range f.snapshot.AttachedTo(node.Name)[driver] {
			if pv := f.snapshot.Volume(name); pv != nil && pv.Spec.CSI != nil {
				attached.Insert(pv.Spec.CSI.VolumeHandle)
			} else {
				attached.Insert("volume " + name)
			}
		}
		if len(wanted.Difference(attached)) > 0 && len(wanted.Union(attached)) > limit {
			return core.Refuse(LimitsName, "node(s) exceed max volume count")
		}
	}
	return nil
}

func limitOf(csiNode *storagev1.CSINode, driver string) (int, bool) {
	for i := range csiNode.Spec.Drivers {
		d := &csiNode.Spec.Drivers[i]
		if d.Name == driver && d.Allocatable != nil && d.Allocatable.Count != nil {
			return int(*d.Allocatable.Count), true
		}
	}
	return 0, false
}

// Hints implements core.Waker.
func (Limits) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.CSINodes, Actions: core.Add | core.Update},
		{Kind: core.AssignedPods, Actions: core.Delete, Wakes: func(_ *core.Pod, e core.Event) bool {
			gone, ok := e.Old.(*core.Pod)
			return ok && len(gone.Claims()) > 0
		}},
		{Kind: core.Claims, Actions: core.Add | core.Update},
		{Kind: core.Attachments, Actions: core.Delete},
		{Kind: core.Nodes, Actions: core.Add},
	}
}

// Zone keeps pods in the zone or region that the labels of their volumes name.
type Zone struct{}

// Name implements core.Plugin.
func (Zone) Name() string { return ZoneName }

// zoneLabels of volumes and nodes: the names of today by those of old.
var zoneLabels = map[string]string{
	corev1.LabelFailureDomainBetaZone: corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	corev1.LabelTopologyZone: corev1.LabelTopologyZone, corev1.LabelTopologyRegion: corev1.LabelTopologyRegion,
}

// Filter implements core.FilterPlugin. Claims without a volume, and such as can't be used, are Binding's to judge.
func (Zone) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	var f zones
	for _, key := range pod.Claims() {
		claim := s.Claim(key)
		if claim == nil || claim.Spec.VolumeName == "" {
			continue
		}
		pv := s.Volume(claim.Spec.VolumeName)
		if pv == nil {
			continue
		}
		for label := range zoneLabels {
			if value, ok := pv.Labels[label]; ok {
				f = append(f, zone{label: label, values: strings.Split(value, "__")})
			}
		}
	}
	if len(f) == 0 {
		return nil, nil
	}
	return f, nil
}

// zone is where a volume can be reached: several values are joined by two underscores.
type zone struct {
	label  string
	values []string
}

type zones []zone

// Check implements core.Filter.
func (f zones) Check(node *core.Node) *core.Status {
	located := false
	for label := range zoneLabels {
		_, has := node.Labels[label]
		located = located || has
	}
	if !located {
		return nil // a cluster without zones
	}
	for _, z := range f {
		value, ok := node.Labels[z.label]
		if !ok {
			value, ok = node.Labels[zoneLabels[z.label]]
		}
		if !ok || !slices.Contains(z.values, value) {
			return core.RefuseForGood(ZoneName, "node(s) had no available volume zone")
		}
	}
	return nil
}

// Hints implements core.Waker.
func (Zone) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.Classes, Actions: core.Add | core.Update},
		{Kind: core.Nodes, Actions: core.Add | core.UpdateLabels},
		{Kind: core.Claims, Actions: core.Add | core.Update},
		{Kind: core.Volumes, Actions: core.Add | core.Update},
	}
}
