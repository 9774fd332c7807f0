// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

const unknownRequest = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"

func validateResourceClaim(req kinds.Request, c *resourcev1.ResourceClaim) field.ErrorList {
	return append(adminAccess(req, c.Spec.Devices.Requests), claimSpec(&c.Spec, field.NewPath("spec"))...)
}

// adminAccess refuses requests for devices that others use, but in namespaces whose label allows it. Only the first such request is named.
func adminAccess(req kinds.Request, requests []resourcev1.DeviceRequest) field.ErrorList {
	i := slices.IndexFunc(requests, func(r resourcev1.DeviceRequest) bool {
		return r.Exactly != nil && ptr.Deref(r.Exactly.AdminAccess, false)
	})
	if i < 0 || adminAllowed(req) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "devices", "requests").Index(i).Child("adminAccess"), adminRefused)}
}

// adminStatus does the same for an allocation, unless it was made before.
func adminStatus(req kinds.Request, new, old *resourcev1.AllocationResult) field.ErrorList {
	granted := func(a *resourcev1.AllocationResult) int {
		if a == nil {
			return -1
		}
		return slices.IndexFunc(a.Devices.Results, func(r resourcev1.DeviceRequestAllocationResult) bool { return ptr.Deref(r.AdminAccess, false) })
	}
	i := granted(new)
	if i < 0 || granted(old) >= 0 || adminAllowed(req) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess"), adminRefused)}
}

const adminRefused = "admin access to devices requires the `" + resourcev1.DRAAdminNamespaceLabelKey + ": true` label on the containing namespace"

func adminAllowed(req kinds.Request) bool {
	return req.NamespaceLabels == nil || req.NamespaceLabels()[resourcev1.DRAAdminNamespaceLabelKey] == "true"
}

func validateResourceClaimUpdate(_ kinds.Request, new, old *resourcev1.ResourceClaim) field.ErrorList {
	return check.Immutable(new.Spec, old.Spec, field.NewPath("spec"))
}

func validateResourceClaimTemplate(req kinds.Request, t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	path := field.NewPath("spec")
	errs := append(adminAccess(req, t.Spec.Spec.Devices.Requests), check.TemplateMetadata(t.Spec.ObjectMeta, path.Child("metadata"))...)
	return append(errs, claimSpec(&t.Spec.Spec, path.Child("spec"))...)
}

func validateResourceClaimTemplateUpdate(req kinds.Request, new, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
	req.NamespaceLabels = nil // the spec can't change, and was judged when it was made
	return append(validateResourceClaimTemplate(req, new), check.Immutable(new.Spec, old.Spec, field.NewPath("spec"))...)
}

// requests are the names that a claim's other parts may refer to: each request with its alternatives.
type requests map[string]map[string]bool

func requestsOf(claim *resourcev1.DeviceClaim) requests {
	out := requests{}
	for i := range claim.Requests {
		alternatives := map[string]bool{}
		for k := range claim.Requests[i].FirstAvailable {
			alternatives[claim.Requests[i].FirstAvailable[k].Name] = true
		}
		out[claim.Requests[i].Name] = alternatives
	}
	return out
}

// reference judges the name of a request, or of a request and one of its alternatives.
func (r requests) reference(name string, path *field.Path) field.ErrorList {
	segments := strings.Split(name, "/")
	if len(segments) > 2 {
		return field.ErrorList{field.Invalid(path, name, unknownRequest)}
	}
	var errs field.ErrorList
	for _, s := range segments {
		errs = append(errs, check.Label(s, path)...)
	}
	alternatives, found := r[segments[0]]
	if !found || len(segments) == 2 && !alternatives[segments[1]] {
		errs = append(errs, field.Invalid(path, name, unknownRequest))
	}
	return errs
}

func claimSpec(spec *resourcev1.ResourceClaimSpec, path *field.Path) field.ErrorList {
	path = path.Child("devices")
	names := requestsOf(&spec.Devices)
	errs := set(spec.Devices.Requests, resourcev1.DeviceRequestsMaxSize, path.Child("requests"),
		func(r resourcev1.DeviceRequest) string { return r.Name }, request)
	if n := len(spec.Devices.Constraints); n > resourcev1.DeviceConstraintsMaxSize {
		errs = append(errs, field.TooMany(path.Child("constraints"), n, resourcev1.DeviceConstraintsMaxSize))
	} else {
		for i := range spec.Devices.Constraints {
			errs = append(errs, names.constraint(&spec.Devices.Constraints[i], path.Child("constraints").Index(i))...)
		}
	}
	if n := len(spec.Devices.Config); n > resourcev1.DeviceConfigMaxSize {
		return append(errs, field.TooMany(path.Child("config"), n, resourcev1.DeviceConfigMaxSize))
	}
	for i := range spec.Devices.Config {
		at := path.Child("config").Index(i)
		errs = append(errs, set(spec.Devices.Config[i].Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"), same, names.reference)...)
		errs = append(errs, configuration(spec.Devices.Config[i].DeviceConfiguration, at)...)
	}
	return errs
}

func request(r resourcev1.DeviceRequest, path *field.Path) field.ErrorList {
	errs := check.Label(r.Name, path.Child("name"))
	const either = "exactly one of `exactly` or `firstAvailable` is required"
	switch first, exactly := len(r.FirstAvailable) > 0, r.Exactly != nil; {
	case first && exactly:
		return append(errs, field.Invalid(path, nil, either+", but multiple fields are set"))
	case first:
		return append(errs, set(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, path.Child("firstAvailable"),
			func(s resourcev1.DeviceSubRequest) string { return s.Name }, subRequest)...)
	case exactly:
		e, at := r.Exactly, path.Child("exactly")
		errs = append(errs, requireSubdomain(e.DeviceClassName, at.Child("deviceClassName"))...)
		errs = append(errs, selectors(e.Selectors, at.Child("selectors"))...)
		errs = append(errs, allocationMode(e.AllocationMode, e.Count, at)...)
		return append(errs, tolerations(e.Tolerations, at.Child("tolerations"))...)
	}
	return append(errs, field.Required(path, either))
}

func subRequest(r resourcev1.DeviceSubRequest, path *field.Path) field.ErrorList {
	errs := check.Label(r.Name, path.Child("name"))
	errs = append(errs, requireSubdomain(r.DeviceClassName, path.Child("deviceClassName"))...)
	errs = append(errs, selectors(r.Selectors, path.Child("selectors"))...)
	errs = append(errs, allocationMode(r.AllocationMode, r.Count, path)...)
	return append(errs, tolerations(r.Tolerations, path.Child("tolerations"))...)
}

func allocationMode(mode resourcev1.DeviceAllocationMode, count int64, path *field.Path) field.ErrorList {
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		if count != 0 {
			return field.ErrorList{field.Invalid(path.Child("count"), count, fmt.Sprintf("must not be specified when allocationMode is '%s'", mode))}
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if count <= 0 {
			return field.ErrorList{field.Invalid(path.Child("count"), count, "must be greater than zero")}
		}
	default:
		return field.ErrorList{field.NotSupported(path.Child("allocationMode"), mode,
			[]resourcev1.DeviceAllocationMode{resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount})}
	}
	return nil
}

func (r requests) constraint(c *resourcev1.DeviceConstraint, path *field.Path) field.ErrorList {
	errs := set(c.Requests, resourcev1.DeviceRequestsMaxSize, path.Child("requests"), same, r.reference)
	switch {
	case c.MatchAttribute != nil:
		return append(errs, fullyQualifiedName(string(*c.MatchAttribute), path.Child("matchAttribute"))...)
	case c.DistinctAttribute != nil:
		return append(errs, fullyQualifiedName(string(*c.DistinctAttribute), path.Child("distinctAttribute"))...)
	}
	return append(errs, field.Required(path, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
}

func validateResourceClaimStatus(req kinds.Request, new, old *resourcev1.ResourceClaim) field.ErrorList {
	path, s := field.NewPath("status"), &new.Status
	errs := adminStatus(req, new.Status.Allocation, old.Status.Allocation)
	errs = append(errs, set(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, path.Child("reservedFor"),
		func(c resourcev1.ResourceClaimConsumerReference) types.UID { return c.UID }, consumer)...)
	errs = append(errs, deviceStatuses(s, path.Child("devices"))...)
	if len(s.ReservedFor) > 0 {
		at := path.Child("reservedFor")
		switch {
		case s.Allocation == nil:
			errs = append(errs, field.Forbidden(at, "may not be specified when `allocated` is not set"))
		case new.DeletionTimestamp != nil:
			for _, c := range s.ReservedFor {
				if !contains(old.Status.ReservedFor, c) {
					errs = append(errs, field.Forbidden(at, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
					break
				}
			}
		}
	}
	switch at := path.Child("allocation"); {
	case s.Allocation == nil:
	case old.Status.Allocation != nil:
		errs = append(errs, check.Immutable(s.Allocation, old.Status.Allocation, at)...)
	default:
		errs = append(errs, requestsOf(&new.Spec.Devices).allocation(s.Allocation, at.Child("devices"))...)
		if s.Allocation.NodeSelector != nil {
			errs = append(errs, podspec.ValidateNodeSelector(s.Allocation.NodeSelector, podspec.Options{}, at.Child("nodeSelector"))...)
		}
	}
	return errs
}

func consumer(c resourcev1.ResourceClaimConsumerReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct{ name, value string }{{"resource", c.Resource}, {"name", c.Name}, {"uid", string(c.UID)}} {
		if f.value == "" {
			errs = append(errs, field.Required(path.Child(f.name), ""))
		}
	}
	return errs
}

func (r requests) allocation(a *resourcev1.AllocationResult, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(a.Devices.Results); n > resourcev1.AllocationResultsMaxSize {
		errs = append(errs, field.TooMany(path.Child("results"), n, resourcev1.AllocationResultsMaxSize))
	}
	for i := range a.Devices.Results {
		result, at := &a.Devices.Results[i], path.Child("results").Index(i)
		errs = append(errs, r.reference(result.Request, at.Child("request"))...)
		errs = append(errs, requireDriver(result.Driver, at.Child("driver"))...)
		errs = append(errs, requirePool(result.Pool, at.Child("pool"))...)
		errs = append(errs, check.Label(result.Device, at.Child("device"))...)
		errs = append(errs, bindings(result.BindingConditions, result.BindingFailureConditions, at)...)
		errs = append(errs, share(result.ShareID, at.Child("shareID"))...)
	}
	// Classes and claims have as many each.
	if n := len(a.Devices.Config); n > 2*resourcev1.DeviceConfigMaxSize {
		return append(errs, field.TooMany(path.Child("config"), n, 2*resourcev1.DeviceConfigMaxSize))
	}
	sources := []resourcev1.AllocationConfigSource{resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass}
	for i := range a.Devices.Config {
		c, at := &a.Devices.Config[i], path.Child("config").Index(i)
		errs = append(errs, check.OneOf(c.Source, at.Child("source"), sources...)...)
		errs = append(errs, set(c.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"), same, r.reference)...)
		errs = append(errs, configuration(c.DeviceConfiguration, at)...)
	}
	return errs
}

// deviceStatuses admits reports of allocated devices only, one for each.
func deviceStatuses(s *resourcev1.ResourceClaimStatus, path *field.Path) field.ErrorList {
	allocated := map[deviceID]bool{}
	if s.Allocation != nil {
		for _, r := range s.Allocation.Devices.Results {
			share := ""
			if r.ShareID != nil {
				share = string(*r.ShareID)
			}
			allocated[deviceID{r.Driver, r.Pool, r.Device, share}] = true
		}
	}
	key := func(d resourcev1.AllocatedDeviceStatus) deviceID {
		share := ""
		if d.ShareID != nil {
			share = *d.ShareID
		}
		return deviceID{d.Driver, d.Pool, d.Device, share}
	}
	return set(s.Devices, -1, path, key, func(d resourcev1.AllocatedDeviceStatus, at *field.Path) field.ErrorList {
		errs := deviceStatus(&d, at)
		if id := key(d); !allocated[id] {
			errs = append(errs, field.Invalid(at, id, "must be an allocated device in the claim"))
		}
		return errs
	})
}
