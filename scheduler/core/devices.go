// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"cmp"
	"maps"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// devices are the objects of dynamic resource allocation.
type devices struct {
	claims  map[types.NamespacedName]*resourcev1.ResourceClaim
	assumed map[types.NamespacedName]*resourcev1.ResourceClaim // as decided, and not yet seen in the API
	classes map[string]*resourcev1.DeviceClass
	slices  map[string]*resourcev1.ResourceSlice
}

func newDevices() devices {
	return devices{
		claims: map[types.NamespacedName]*resourcev1.ResourceClaim{}, assumed: map[types.NamespacedName]*resourcev1.ResourceClaim{},
		classes: map[string]*resourcev1.DeviceClass{}, slices: map[string]*resourcev1.ResourceSlice{},
	}
}

// putClaim takes in a claim. A decision about it stays in force until the API shows an allocation: it is written in two
// steps, and the first alone would make the devices look free.
func (d *devices) putClaim(key types.NamespacedName, claim *resourcev1.ResourceClaim) []Event {
	if a := d.assumed[key]; a != nil && (claim.Status.Allocation != nil || claim.UID != a.UID || claim.DeletionTimestamp != nil) {
		delete(d.assumed, key)
	}
	return put(d.claims, DeviceClaims, key, claim)
}

// DeviceClaim returns a resource claim, as decided if that is newer than seen, or nil.
func (o *Objects) DeviceClaim(key types.NamespacedName) *resourcev1.ResourceClaim {
	if c := o.devices.assumed[key]; c != nil {
		return c
	}
	return o.devices.claims[key]
}

// DeviceClaims returns all resource claims, in no order.
func (o *Objects) DeviceClaims() []*resourcev1.ResourceClaim {
	out := make([]*resourcev1.ResourceClaim, 0, len(o.devices.claims))
	for key := range o.devices.claims {
		out = append(out, o.DeviceClaim(key))
	}
	return out
}

// DeviceClass returns a device class, or nil.
func (o *Objects) DeviceClass(name string) *resourcev1.DeviceClass { return o.devices.classes[name] }

// DeviceClasses returns all device classes.
func (o *Objects) DeviceClasses() []*resourcev1.DeviceClass { return byName(o.devices.classes) }

// DeviceSlices returns what drivers publish, ordered by name so that allocations are the same each time.
func (o *Objects) DeviceSlices() []*resourcev1.ResourceSlice { return byName(o.devices.slices) }

func byName[T metav1.Object](m map[string]T) []T {
	return slices.SortedFunc(maps.Values(m), func(a, b T) int { return cmp.Compare(a.GetName(), b.GetName()) })
}
