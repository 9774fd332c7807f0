// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func resourceClaim() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "resourceclaims",
		Singular:       "resourceclaim",
		AnswersDeleted: true,
		Reset:          map[string][]string{"status": {"metadata", "spec"}},
		Namespaced:     true,
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "resourceclaims"},
		OnRequest:      resourceClaimVersions(),
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *resourcev1.ResourceClaim) {
				new.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
				dropDeallocated(new, old)
			}, validateResourceClaimStatus),
		},
	}, version.WithKind("ResourceClaim"),
		func() *resourcev1.ResourceClaim { return &resourcev1.ResourceClaim{} },
		func() runtime.Object { return &resourcev1.ResourceClaimList{} },
		kinds.Strategy[*resourcev1.ResourceClaim]{
			Default: func(c *resourcev1.ResourceClaim) {
				defaultClaimSpec(&c.Spec)
				if a := c.Status.Allocation; a != nil {
					for i := range a.Devices.Results {
						defaultTolerations(a.Devices.Results[i].Tolerations)
					}
				}
			},
			PrepareCreate: func(_ kinds.Request, c *resourcev1.ResourceClaim) {
				c.Status = resourcev1.ResourceClaimStatus{}
			},
			PrepareUpdate:  func(_ kinds.Request, new, old *resourcev1.ResourceClaim) { new.Status = old.Status },
			Validate:       validateResourceClaim,
			ValidateUpdate: validateResourceClaimUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("State", "A summary of the current state (allocated, pending, reserved, etc.)."), table.Age(),
			},
			Row: func(c *resourcev1.ResourceClaim, now time.Time) []any {
				return []any{c.Name, claimState(c), table.Since(c.CreationTimestamp, now)}
			},
		})
}

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	switch {
	case c.Status.Allocation != nil:
		states = append(states, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			states = append(states, "reserved")
		}
	case c.DeletionTimestamp == nil:
		states = append(states, "pending")
	}
	return strings.Join(states, ",")
}

func defaultClaimSpec(spec *resourcev1.ResourceClaimSpec) {
	for i := range spec.Devices.Requests {
		r := &spec.Devices.Requests[i]
		if r.Exactly != nil {
			defaultCount(&r.Exactly.AllocationMode, &r.Exactly.Count)
			defaultTolerations(r.Exactly.Tolerations)
		}
		for k := range r.FirstAvailable {
			defaultCount(&r.FirstAvailable[k].AllocationMode, &r.FirstAvailable[k].Count)
			defaultTolerations(r.FirstAvailable[k].Tolerations)
		}
	}
}

func defaultCount(mode *resourcev1.DeviceAllocationMode, count *int64) {
	if *mode == "" {
		*mode = resourcev1.DeviceAllocationModeExactCount
	}
	if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
		*count = 1
	}
}

func defaultTolerations(list []resourcev1.DeviceToleration) {
	for i := range list {
		if list[i].Operator == "" {
			list[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}

// deviceID names one allocated device, or one share of it.
type deviceID struct{ Driver, Pool, Device, ShareID string }

// dropDeallocated forgets the reported status of devices that this update takes from the claim.
func dropDeallocated(new, old *resourcev1.ResourceClaim) {
	gone := map[deviceID]bool{}
	each := func(c *resourcev1.ResourceClaim, visit func(deviceID)) {
		if c.Status.Allocation == nil {
			return
		}
		for _, r := range c.Status.Allocation.Devices.Results {
			share := ""
			if r.ShareID != nil {
				share = string(*r.ShareID)
			}
			visit(deviceID{r.Driver, r.Pool, r.Device, share})
		}
	}
	each(old, func(id deviceID) { gone[id] = true })
	each(new, func(id deviceID) { delete(gone, id) })
	var kept []resourcev1.AllocatedDeviceStatus
	for _, d := range new.Status.Devices {
		share := ""
		if d.ShareID != nil {
			share = *d.ShareID
		}
		if !gone[deviceID{d.Driver, d.Pool, d.Device, share}] {
			kept = append(kept, d)
		}
	}
	new.Status.Devices = kept
}

func resourceClaimTemplate() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "resourceclaimtemplates",
		Singular:       "resourceclaimtemplate",
		AnswersDeleted: true,
		Namespaced:     true,
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "resourceclaimtemplates"},
		OnRequest:      resourceClaimTemplateVersions(),
	}, version.WithKind("ResourceClaimTemplate"),
		func() *resourcev1.ResourceClaimTemplate { return &resourcev1.ResourceClaimTemplate{} },
		func() runtime.Object { return &resourcev1.ResourceClaimTemplateList{} },
		kinds.Strategy[*resourcev1.ResourceClaimTemplate]{
			Default:        func(t *resourcev1.ResourceClaimTemplate) { defaultClaimSpec(&t.Spec.Spec) },
			Validate:       validateResourceClaimTemplate,
			ValidateUpdate: validateResourceClaimTemplateUpdate,
			Columns:        []metav1.TableColumnDefinition{table.Name(), table.Age()},
			Row: func(t *resourcev1.ResourceClaimTemplate, now time.Time) []any {
				return []any{t.Name, table.Since(t.CreationTimestamp, now)}
			},
		})
}
