// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package devices has the DynamicResources plugin: it allocates devices for the resource claims of a pod.
package devices

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/dynamic-resource-allocation/structured"

	"kogge.dev/kogge/scheduler/core"
)

// Name of the plugin.
const Name = "DynamicResources"

// compiledExpressions bounds how many selectors are kept compiled.
const compiledExpressions = 100

// Plugin allocates devices.
type Plugin struct{ expressions *cel.Cache }

// New makes the plugin.
func New() *Plugin { return &Plugin{expressions: cel.NewCache(compiledExpressions, cel.Features{})} }

// Name implements core.Plugin.
func (*Plugin) Name() string { return Name }

// Filter implements core.FilterPlugin.
func (p *Plugin) Filter(s *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	if len(pod.Spec.ResourceClaims) == 0 {
		return nil, nil
	}
	f := &allocation{pod: pod}
	for i := range pod.Spec.ResourceClaims {
		claim, reason := claimOf(s, pod, &pod.Spec.ResourceClaims[i])
		switch {
		case reason != "":
			return nil, core.RefuseForGood(Name, reason)
		case claim == nil:
		case claim.Status.Allocation == nil:
			if reason := missingClass(s, claim); reason != "" {
				return nil, core.RefuseForGood(Name, reason)
			}
			f.open = append(f.open, claim)
		case !resourceclaim.IsReservedForPod(pod.Pod, claim, false) && !resourceclaim.CanBeReserved(claim):
			return nil, core.RefuseForGood(Name, "resourceclaim in use")
		default:
			f.done = append(f.done, claim)
		}
	}
	if len(f.open) > 0 {
		features := structured.Features{AdminAccess: true, ConsumableCapacity: true, DeviceTaints: true, PartitionableDevices: true, PrioritizedList: true}
		allocator, err := structured.NewAllocator(context.Background(), features, allocated(s), classes{s}, s.DeviceSlices(), p.expressions)
		if err != nil {
			return nil, core.Fail(Name, err)
		}
		f.allocator = allocator
	}
	return f, nil
}

// claimOf returns the claim behind an entry of the pod, nil when there is none by intent, or why it can't be used now.
func claimOf(s *core.Snapshot, pod *core.Pod, entry *corev1.PodResourceClaim) (*resourcev1.ResourceClaim, string) {
	name, mustOwn, err := resourceclaim.Name(pod.Pod, entry)
	if err != nil {
		return nil, err.Error()
	}
	if name == nil {
		return nil, ""
	}
	claim := s.DeviceClaim(core.Key(pod.Namespace, *name))
	switch {
	case claim == nil:
		return nil, fmt.Sprintf("resourceclaim.resource.k8s.io %q not found", *name)
	case claim.DeletionTimestamp != nil:
		return nil, fmt.Sprintf("resourceclaim %q is being deleted", claim.Name)
	}
	if mustOwn {
		if err := resourceclaim.IsForPod(pod.Pod, claim, false); err != nil {
			return nil, err.Error()
		}
	}
	return claim, ""
}

func missingClass(s *core.Snapshot, claim *resourcev1.ResourceClaim) string {
	for i := range claim.Spec.Devices.Requests {
		r := &claim.Spec.Devices.Requests[i]
		if r.Exactly != nil && s.DeviceClass(r.Exactly.DeviceClassName) == nil {
			return fmt.Sprintf("request %s: device class %s does not exist", r.Name, r.Exactly.DeviceClassName)
		}
		for j := range r.FirstAvailable {
			if sub := &r.FirstAvailable[j]; s.DeviceClass(sub.DeviceClassName) == nil {
				return fmt.Sprintf("request %s/%s: device class %s does not exist", r.Name, sub.Name, sub.DeviceClassName)
			}
		}
	}
	return ""
}

// allocated collects the devices that claims have, and of shared ones how much; those with administrative access take none.
func allocated(s *core.Snapshot) structured.AllocatedState {
	state := structured.AllocatedState{
		AllocatedDevices: sets.New[structured.DeviceID](), AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity: structured.NewConsumedCapacityCollection(),
	}
	for _, claim := range s.DeviceClaims() {
		if claim.Status.Allocation == nil {
			continue
		}
		for _, r := range claim.Status.Allocation.Devices.Results {
			if r.AdminAccess != nil && *r.AdminAccess {
				continue
			}
			id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
			if r.ShareID == nil {
				state.AllocatedDevices.Insert(id)
				continue
			}
			state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
			if r.ConsumedCapacity != nil {
				state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
			}
		}
	}
	return state
}

// classes shows device classes to the allocator.
type classes struct{ s *core.Snapshot }

// List returns all classes.
func (c classes) List() ([]*resourcev1.DeviceClass, error) { return c.s.DeviceClasses(), nil }

// Get returns one class.
func (c classes) Get(name string) (*resourcev1.DeviceClass, error) {
	if class := c.s.DeviceClass(name); class != nil {
		return class, nil
	}
	return nil, fmt.Errorf("deviceclass.resource.k8s.io %q not found", name)
}

// allocation judges nodes for the claims of one pod.
type allocation struct {
	pod       *core.Pod
	done      []*resourcev1.ResourceClaim // allocated already
	open      []*resourcev1.ResourceClaim
	allocator structured.Allocator // nil when nothing is open
}

// Check implements core.Filter.
func (f *allocation) Check(node *core.Node) *core.Status {
	for _, claim := range f.done {
		if claim.Status.Allocation.NodeSelector == nil {
			continue
		}
		selector, err := nodeaffinity.NewNodeSelector(claim.Status.Allocation.NodeSelector)
		if err != nil {
			return core.Fail(Name, err)
		}
		if !selector.Match(node.Node) {
			return core.RefuseForGood(Name, "resourceclaim not available on the node")
		}
	}
	if len(f.open) == 0 {
		return nil
	}
	results, err := f.allocator.Allocate(context.Background(), node.Node, f.open)
	switch {
	case err != nil:
		return core.Fail(Name, err)
	case results == nil:
		return core.RefuseForGood(Name, "cannot allocate all claims")
	}
	return nil
}

// Reserve implements core.Reserving.
func (f *allocation) Reserve(node *core.Node) *core.Plan {
	plan := &core.Plan{}
	for _, claim := range f.done {
		if !resourceclaim.IsReservedForPod(f.pod.Pod, claim, false) {
			plan.DeviceClaims = append(plan.DeviceClaims, f.reserved(claim, nil))
		}
	}
	if len(f.open) > 0 {
		results, err := f.allocator.Allocate(context.Background(), node.Node, f.open)
		if err != nil || len(results) != len(f.open) {
			return nil // Check accepted the node in this cycle
		}
		for i, claim := range f.open {
			plan.DeviceClaims = append(plan.DeviceClaims, f.reserved(claim, &results[i]))
		}
	}
	if len(plan.DeviceClaims) == 0 {
		return nil
	}
	return plan
}

// reserved returns a claim as it is to be: the pod's, and allocated if a result is given.
func (f *allocation) reserved(claim *resourcev1.ResourceClaim, result *resourcev1.AllocationResult) *resourcev1.ResourceClaim {
	next := claim.DeepCopy()
	if result != nil {
		next.Status.Allocation = result
		if !slices.Contains(next.Finalizers, resourcev1.Finalizer) {
			next.Finalizers = append(next.Finalizers, resourcev1.Finalizer)
		}
	}
	next.Status.ReservedFor = append(next.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{
		Resource: "pods", Name: f.pod.Name, UID: f.pod.UID,
	})
	return next
}

// Hints implements core.Waker.
func (*Plugin) Hints() []core.Hint {
	return []core.Hint{
		{Kind: core.DeviceClaims, Actions: core.Any, Wakes: func(pod *core.Pod, e core.Event) bool {
			// One that goes or gives devices back may leave them for any; others matter to their pods.
			if e.New == nil {
				return true
			}
			claim, ok := e.New.(*resourcev1.ResourceClaim)
			if !ok || claim.Status.Allocation == nil {
				return true
			}
			return slices.Contains(names(pod), core.Key(claim.Namespace, claim.Name))
		}},
		{Kind: core.DeviceClasses, Actions: core.Add | core.Update},
		{Kind: core.DeviceSlices, Actions: core.Add | core.Update},
		{Kind: core.Nodes, Actions: core.Add | core.UpdateLabels},
	}
}

func names(pod *core.Pod) []types.NamespacedName {
	var out []types.NamespacedName
	for i := range pod.Spec.ResourceClaims {
		if name, _, err := resourceclaim.Name(pod.Pod, &pod.Spec.ResourceClaims[i]); err == nil && name != nil {
			out = append(out, core.Key(pod.Namespace, *name))
		}
	}
	return out
}

var (
	_ core.FilterPlugin = (*Plugin)(nil)
	_ core.Waker        = (*Plugin)(nil)
	_ core.Reserving    = (*allocation)(nil)
)
