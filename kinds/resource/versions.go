// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	resourcev1beta1 "k8s.io/api/resource/v1beta1"
	resourcev1beta2 "k8s.io/api/resource/v1beta2"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/reshape"
)

// The older versions. v1beta2 differs from v1 in its name only. In v1beta1 a request is flat, where v1 has what it exactly asks for in a
// part of its own, and what describes a device is in a part of its own, where v1 is flat.
var (
	beta1 = resourcev1beta1.SchemeGroupVersion
	beta2 = resourcev1beta2.SchemeGroupVersion
)

func deviceClassVersions() []kinds.Served {
	const name = "DeviceClass"
	return []kinds.Served{
		kinds.Mirror[resourcev1beta2.DeviceClass, resourcev1beta2.DeviceClassList, resourcev1.DeviceClass](beta2.WithKind(name)),
		kinds.Mirror[resourcev1beta1.DeviceClass, resourcev1beta1.DeviceClassList, resourcev1.DeviceClass](beta1.WithKind(name)),
	}
}

func resourceClaimVersions() []kinds.Served {
	const name = "ResourceClaim"
	flat := kinds.Versioned[resourcev1beta1.ResourceClaim, resourcev1beta1.ResourceClaimList](beta1.WithKind(name),
		func(in *resourcev1.ResourceClaim) *resourcev1beta1.ResourceClaim {
			out := &resourcev1beta1.ResourceClaim{}
			reshape.Copy(out, in)
			flatten(&out.Spec, &in.Spec)
			return out
		},
		func(in *resourcev1beta1.ResourceClaim) *resourcev1.ResourceClaim {
			out := &resourcev1.ResourceClaim{}
			reshape.Copy(out, in)
			unflatten(&out.Spec, &in.Spec)
			return out
		})
	flat.Default = func(obj kinds.Object) { defaultFlat(&obj.(*resourcev1beta1.ResourceClaim).Spec) }
	return []kinds.Served{
		kinds.Mirror[resourcev1beta2.ResourceClaim, resourcev1beta2.ResourceClaimList, resourcev1.ResourceClaim](beta2.WithKind(name)), flat,
	}
}

func resourceClaimTemplateVersions() []kinds.Served {
	const name = "ResourceClaimTemplate"
	flat := kinds.Versioned[resourcev1beta1.ResourceClaimTemplate, resourcev1beta1.ResourceClaimTemplateList](beta1.WithKind(name),
		func(in *resourcev1.ResourceClaimTemplate) *resourcev1beta1.ResourceClaimTemplate {
			out := &resourcev1beta1.ResourceClaimTemplate{}
			reshape.Copy(out, in)
			flatten(&out.Spec.Spec, &in.Spec.Spec)
			return out
		},
		func(in *resourcev1beta1.ResourceClaimTemplate) *resourcev1.ResourceClaimTemplate {
			out := &resourcev1.ResourceClaimTemplate{}
			reshape.Copy(out, in)
			unflatten(&out.Spec.Spec, &in.Spec.Spec)
			return out
		})
	flat.Default = func(obj kinds.Object) { defaultFlat(&obj.(*resourcev1beta1.ResourceClaimTemplate).Spec.Spec) }
	return []kinds.Served{
		kinds.Mirror[resourcev1beta2.ResourceClaimTemplate, resourcev1beta2.ResourceClaimTemplateList, resourcev1.ResourceClaimTemplate](
			beta2.WithKind(name)), flat,
	}
}

// flatten completes copied requests with what they exactly ask for.
func flatten(out *resourcev1beta1.ResourceClaimSpec, in *resourcev1.ResourceClaimSpec) {
	for i := range in.Devices.Requests {
		if exactly := in.Devices.Requests[i].Exactly; exactly != nil {
			reshape.Copy(&out.Devices.Requests[i], exactly)
		}
	}
}

// unflatten is the way back: a request asks for something exactly when it says anything of that.
func unflatten(out *resourcev1.ResourceClaimSpec, in *resourcev1beta1.ResourceClaimSpec) {
	for i := range in.Devices.Requests {
		r := &in.Devices.Requests[i]
		if r.DeviceClassName != "" || r.Selectors != nil || r.AllocationMode != "" || r.Count != 0 || r.AdminAccess != nil ||
			r.Tolerations != nil || r.Capacity != nil {
			exactly := &resourcev1.ExactDeviceRequest{}
			reshape.Copy(exactly, r)
			out.Devices.Requests[i].Exactly = exactly
		}
	}
}

// defaultFlat completes requests that name a class: others are a choice of several, which the kind's own defaults complete.
func defaultFlat(spec *resourcev1beta1.ResourceClaimSpec) {
	for i := range spec.Devices.Requests {
		r := &spec.Devices.Requests[i]
		if r.DeviceClassName == "" {
			continue
		}
		if r.AllocationMode == "" {
			r.AllocationMode = resourcev1beta1.DeviceAllocationModeExactCount
		}
		if r.AllocationMode == resourcev1beta1.DeviceAllocationModeExactCount && r.Count == 0 {
			r.Count = 1
		}
	}
}

func resourceSliceVersions() []kinds.Served {
	const name = "ResourceSlice"
	return []kinds.Served{
		kinds.Mirror[resourcev1beta2.ResourceSlice, resourcev1beta2.ResourceSliceList, resourcev1.ResourceSlice](beta2.WithKind(name)),
		kinds.Versioned[resourcev1beta1.ResourceSlice, resourcev1beta1.ResourceSliceList](beta1.WithKind(name), wrapDevices, unwrapDevices),
	}
}

func wrapDevices(in *resourcev1.ResourceSlice) *resourcev1beta1.ResourceSlice {
	out := &resourcev1beta1.ResourceSlice{}
	reshape.Copy(out, in)
	for i := range in.Spec.Devices {
		basic := &resourcev1beta1.BasicDevice{}
		reshape.Copy(basic, &in.Spec.Devices[i])
		out.Spec.Devices[i].Basic = basic
	}
	return out
}

func unwrapDevices(in *resourcev1beta1.ResourceSlice) *resourcev1.ResourceSlice {
	out := &resourcev1.ResourceSlice{}
	reshape.Copy(out, in)
	for i := range in.Spec.Devices {
		if basic := in.Spec.Devices[i].Basic; basic != nil {
			reshape.Copy(&out.Spec.Devices[i], basic)
		}
	}
	return out
}
