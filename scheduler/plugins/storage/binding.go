// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package storage has the plugins that look at volumes: which nodes can reach those of a pod, which may be chosen or made
// for its claims, and how many a node can have.
package storage

import (
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/scheduler/core"
)

// Names of the plugins.
const (
	BindingName      = "VolumeBinding"
	LimitsName       = "NodeVolumeLimits"
	ZoneName         = "VolumeZone"
	RestrictionsName = "VolumeRestrictions"
)

// Binding finds nodes that can reach a pod's volumes, and chooses volumes, or has them made, for claims that wait for
// their first consumer.
type Binding struct{}

// Name implements core.Plugin.
func (Binding) Name() string { return BindingName }

// Filter implements core.FilterPlugin.
func (Binding) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	if len(pod.Claims()) == 0 {
		return nil, nil
	}
	f := &binding{snapshot: s}
	for i := range pod.Spec.Volumes {
		claim, reason := usableClaim(s, pod, &pod.Spec.Volumes[i])
		if reason != "" {
			return nil, core.RefuseForGood(BindingName, reason)
		}
		if claim == nil {
			continue
		}
		if volumes.IsBound(claim) {
			f.bound = append(f.bound, claim)
			continue
		}
		name := volumes.ClaimClass(claim)
		class := s.Class(name)
		if name != "" && class == nil && claim.Spec.VolumeName == "" {
			return nil, core.Fail(BindingName, fmt.Errorf("storageclass.storage.k8s.io %q not found", name))
		}
		if !volumes.Waits(class) || claim.Spec.VolumeName != "" {
			return nil, core.RefuseForGood(BindingName, "pod has unbound immediate PersistentVolumeClaims")
		}
		f.waiting = append(f.waiting, claim)
	}
	// The smallest claims choose first, so that large volumes are left for large claims.
	slices.SortStableFunc(f.waiting, func(a, b *corev1.PersistentVolumeClaim) int {
		x, y := a.Spec.Resources.Requests[corev1.ResourceStorage], b.Spec.Resources.Requests[corev1.ResourceStorage]
		return x.Cmp(y)
	})
	return f, nil
}

// usableClaim returns the claim behind a volume, nil for other volumes, or why it can't be used now.
func usableClaim(s *core.Snapshot, pod *core.Pod, v *corev1.Volume) (*corev1.PersistentVolumeClaim, string) {
	name := volumes.ClaimName(pod.Pod, v)
	if name == "" {
		return nil, ""
	}
	claim := s.Claim(core.Key(pod.Namespace, name))
	switch {
	case claim == nil && v.Ephemeral != nil:
		return nil, fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
	case claim == nil:
		return nil, notFound(name)
	case claim.Status.Phase == corev1.ClaimLost:
		return nil, fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", claim.Name, claim.Spec.VolumeName)
	case claim.DeletionTimestamp != nil:
		return nil, fmt.Sprintf("persistentvolumeclaim %q is being deleted", claim.Name)
	case v.Ephemeral != nil && !metav1.IsControlledBy(claim, pod.Pod):
		return nil, fmt.Sprintf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, claim.Name, pod.Namespace, pod.Name)
	}
	return claim, ""
}

func notFound(claim string) string { return fmt.Sprintf("persistentvolumeclaim %q not found", claim) }

// binding judges nodes for the claims of one pod.
type binding struct {
	snapshot *core.Snapshot
	bound    []*corev1.PersistentVolumeClaim
	waiting  []*corev1.PersistentVolumeClaim
}

// choice is what a node offers: volumes for some claims, the others to be made.
type choice struct {
	claims []*corev1.PersistentVolumeClaim
	chosen []*corev1.PersistentVolume // of claims, in their order
	toMake []*corev1.PersistentVolumeClaim
}

// Check implements core.Filter.
func (f *binding) Check(node *core.Node) *core.Status {
	var reasons []string
	conflict, missing := f.checkBound(node)
	if conflict {
		reasons = append(reasons, "node(s) didn't match PersistentVolume's node affinity")
	}
	if _, reason := f.choose(node); reason != "" {
		reasons = append(reasons, reason)
	}
	if missing {
		reasons = append(reasons, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
	}
	if len(reasons) > 0 {
		return core.RefuseForGood(BindingName, reasons...)
	}
	return nil
}

func (f *binding) checkBound(node *core.Node) (conflict, missing bool) {
	for _, claim := range f.bound {
		pv := f.snapshot.Volume(claim.Spec.VolumeName)
		if pv == nil {
			return false, true
		}
		if !reachable(pv, node) {
			return true, false
		}
	}
	return false, false
}

// reachable reports whether a volume can be used on a node.
func reachable(pv *corev1.PersistentVolume, node *core.Node) bool {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return true
	}
	selector, err := nodeaffinity.NewNodeSelector(pv.Spec.NodeAffinity.Required)
	if err != nil {
		return false
	}
	// Volumes say where they are by labels; fields of the node do not count.
	return selector.Match(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: node.Labels}})
}

// choose finds a volume for each waiting claim, or that it can be made for that node.
func (f *binding) choose(node *core.Node) (choice, string) {
	const conflict = "node(s) didn't find available persistent volumes to bind"
	var c choice
	taken := map[string]struct{}{}
	for _, claim := range f.waiting {
		selected := claim.Annotations[volumes.SelectedNode]
		if selected != "" && selected != node.Name {
			return choice{}, conflict
		}
		if selected == "" {
			search := volumes.Search{Claim: claim, Taken: taken, Reachable: func(pv *corev1.PersistentVolume) bool { return reachable(pv, node) }}
			if pv := search.Best(f.snapshot.VolumesOf(volumes.ClaimClass(claim))); pv != nil {
				taken[pv.Name] = struct{}{}
				c.claims, c.chosen = append(c.claims, claim), append(c.chosen, pv)
				continue
			}
		}
		class := f.snapshot.Class(volumes.ClaimClass(claim))
		if class == nil || class.Provisioner == "" || class.Provisioner == volumes.NoProvisioner || !allowed(class.AllowedTopologies, node) {
			return choice{}, conflict
		}
		if !f.enough(class, claim, node) {
			return choice{}, "node(s) did not have enough free storage"
		}
		c.toMake = append(c.toMake, claim)
	}
	return c, ""
}

// allowed reports whether a node is where a class may make volumes.
func allowed(terms []corev1.TopologySelectorTerm, node *core.Node) bool {
	if len(terms) == 0 {
		return true
	}
	return slices.ContainsFunc(terms, func(term corev1.TopologySelectorTerm) bool {
		if len(term.MatchLabelExpressions) == 0 {
			return false
		}
		return !slices.ContainsFunc(term.MatchLabelExpressions, func(e corev1.TopologySelectorLabelRequirement) bool {
			value, ok := node.Labels[e.Key]
			return !ok || !slices.Contains(e.Values, value)
		})
	})
}

// enough reports whether the driver, if it tells, has room for a claim where the node can reach it.
func (f *binding) enough(class *storagev1.StorageClass, claim *corev1.PersistentVolumeClaim, node *core.Node) bool {
	size, ok := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	driver := f.snapshot.CSIDriver(class.Provisioner)
	if !ok || driver == nil || driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return true
	}
	return slices.ContainsFunc(f.snapshot.Capacities(), func(c *storagev1.CSIStorageCapacity) bool {
		if c.StorageClassName != class.Name || c.NodeTopology == nil {
			return false
		}
		limit := c.Capacity
		if c.MaximumVolumeSize != nil {
			limit = c.MaximumVolumeSize
		}
		selector, err := metav1.LabelSelectorAsSelector(c.NodeTopology)
		return err == nil && limit != nil && limit.Cmp(size) >= 0 && selector.Matches(labels.Set(node.Labels))
	})
}

// Reserve implements core.Reserving.
func (f *binding) Reserve(node *core.Node) *core.Plan {
	plan := &core.Plan{}
	for _, claim := range f.bound {
		if claim.Status.Phase != corev1.ClaimBound {
			plan.Await = append(plan.Await, claim) // The binder is about to say so.
		}
	}
	if len(f.waiting) == 0 && len(plan.Await) == 0 {
		return nil
	}
	c, reason := f.choose(node)
	if reason != "" {
		return nil // Check accepted the node in this cycle, so there is none
	}
	for i, pv := range c.chosen {
		if next, changed := volumes.BindTo(pv, c.claims[i]); changed {
			plan.Volumes = append(plan.Volumes, next)
		}
		plan.Await = append(plan.Await, c.claims[i])
	}
	for _, claim := range c.toMake {
		next := claim
		if claim.Annotations[volumes.SelectedNode] != node.Name {
			next = claim.DeepCopy()
			metav1.SetMetaDataAnnotation(&next.ObjectMeta, volumes.SelectedNode, node.Name)
			plan.Claims = append(plan.Claims, next)
		}
		plan.Await = append(plan.Await, next)
	}
	return plan
}

// Score implements core.ScorePlugin: nodes whose volumes fit the claims tightly are better.
func (Binding) Score(s *core.Snapshot, pod *core.Pod, _ []*core.Node) (core.Scorer, *core.Status) {
	filter, status := Binding{}.Filter(s, pod)
	if status != nil || filter == nil {
		return nil, status
	}
	if f := filter.(*binding); len(f.waiting) > 0 {
		return f, nil
	}
	return nil, nil
}

// Score implements core.Scorer.
func (f *binding) Score(node *core.Node) int64 {
	c, reason := f.choose(node)
	if reason != "" || len(c.chosen) == 0 {
		return 0
	}
	wanted, has := map[string]int64{}, map[string]int64{}
	for i, pv := range c.chosen {
		class := volumes.VolumeClass(pv)
		size, room := c.claims[i].Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
		wanted[class] += size.Value()
		has[class] += room.Value()
	}
	sum := 0.0
	for class := range has {
		if has[class] > 0 {
			sum += float64(wanted[class] * core.MaxScore / has[class])
		}
	}
	return int64(math.Round(sum / float64(len(has))))
}

// Hints implements core.Waker.
func (Binding) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.Claims, Actions: core.Add | core.Update, Wakes: func(pod *core.Pod, e core.Event) bool {
			claim, ok := e.New.(*corev1.PersistentVolumeClaim)
			return ok && slices.Contains(pod.Claims(), core.Key(claim.Namespace, claim.Name))
		}},
		{Kind: core.Volumes, Actions: core.Add | core.Update},
		{Kind: core.Classes, Actions: core.Add | core.Update},
		{Kind: core.CSINodes, Actions: core.Add | core.Update},
		{Kind: core.CSIDrivers, Actions: core.Update},
		{Kind: core.Capacities, Actions: core.Add | core.Update},
		{Kind: core.Nodes, Actions: core.Add | core.UpdateLabels},
	}
}

var (
	_ core.FilterPlugin = Binding{}
	_ core.ScorePlugin  = Binding{}
	_ core.Waker        = Binding{}
	_ core.Reserving    = (*binding)(nil)
)
