// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

const oneSelection = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"

func validateDeviceClass(_ kinds.Request, c *resourcev1.DeviceClass) field.ErrorList {
	path := field.NewPath("spec")
	errs := selectors(c.Spec.Selectors, path.Child("selectors"))
	if n := len(c.Spec.Config); n > resourcev1.DeviceConfigMaxSize {
		errs = append(errs, field.TooMany(path.Child("config"), n, resourcev1.DeviceConfigMaxSize))
	} else {
		for i := range c.Spec.Config {
			errs = append(errs, configuration(c.Spec.Config[i].DeviceConfiguration, path.Child("config").Index(i))...)
		}
	}
	if name := c.Spec.ExtendedResourceName; name != nil && !extended(*name) {
		errs = append(errs, field.Invalid(path.Child("extendedResourceName"), *name, "must be a valid extended resource name"))
	}
	return errs
}

// extended says whether name can be that of a resource that isn't Kubernetes' own; it must also fit behind the prefix of quotas.
func extended(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(utilvalidation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

func validateDeviceClassUpdate(req kinds.Request, new, _ *resourcev1.DeviceClass) field.ErrorList {
	return validateDeviceClass(req, new)
}

func validateResourceSliceUpdate(req kinds.Request, new, old *resourcev1.ResourceSlice) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateResourceSlice(req, new)
	errs = append(errs, check.Immutable(new.Spec.Pool.Name, old.Spec.Pool.Name, path.Child("pool", "name"))...)
	errs = append(errs, check.Immutable(new.Spec.Driver, old.Spec.Driver, path.Child("driver"))...)
	return append(errs, check.Immutable(new.Spec.NodeName, old.Spec.NodeName, path.Child("nodeName"))...)
}

func validateResourceSlice(_ kinds.Request, s *resourcev1.ResourceSlice) field.ErrorList {
	path, spec := field.NewPath("spec"), &s.Spec
	errs := requireDriver(spec.Driver, path.Child("driver"))
	errs = append(errs, pool(&spec.Pool, path.Child("pool"))...)
	errs = append(errs, selection(spec, path)...)
	if spec.SharedCounters != nil && spec.Devices != nil {
		errs = append(errs, field.Invalid(path, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	bound := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(spec.Devices, func(d resourcev1.Device) bool { return len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 }) {
		bound = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	perDevice := spec.PerDeviceNodeSelection != nil && *spec.PerDeviceNodeSelection
	errs = append(errs, set(spec.Devices, bound, path.Child("devices"), func(d resourcev1.Device) string { return d.Name },
		func(d resourcev1.Device, at *field.Path) field.ErrorList { return device(&d, perDevice, at) })...)
	return append(errs, set(spec.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, path.Child("sharedCounters"),
		func(c resourcev1.CounterSet) string { return c.Name },
		func(c resourcev1.CounterSet, at *field.Path) field.ErrorList {
			return append(requireLabel(c.Name, at.Child("name")), counters(c.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, at.Child("counters"))...)
		})...)
}

func pool(p *resourcev1.ResourcePool, path *field.Path) field.ErrorList {
	errs := requirePool(p.Name, path.Child("name"))
	if p.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(path.Child("resourceSliceCount"), p.ResourceSliceCount, "must be greater than zero"))
	}
	if p.Generation < 0 {
		errs = append(errs, field.Invalid(path.Child("generation"), p.Generation, "must be greater than or equal to zero"))
	}
	return errs
}

// selection judges which nodes can reach the devices: one of four ways must be chosen.
func selection(spec *resourcev1.ResourceSliceSpec, path *field.Path) field.ErrorList {
	const onlyTrue = "must be either unset or set to true"
	var errs field.ErrorList
	var chosen []string
	if name := spec.NodeName; name != nil && *name == "" {
		errs = append(errs, field.Invalid(path.Child("nodeName"), *name, "must be either unset or set to a non-empty string"))
	} else if name != nil {
		chosen = append(chosen, "`nodeName`")
		errs = append(errs, check.Subdomain(*name, path.Child("nodeName"))...)
	}
	if s := spec.NodeSelector; s != nil {
		chosen = append(chosen, "`nodeSelector`")
		errs = append(errs, podspec.ValidateNodeSelector(s, podspec.Options{}, path.Child("nodeSelector"))...)
		if len(s.NodeSelectorTerms) != 1 {
			errs = append(errs, field.Invalid(path.Child("nodeSelector", "nodeSelectorTerms"), s.NodeSelectorTerms, "must have exactly one node selector term"))
		}
	}
	for _, flag := range []struct {
		name  string
		value *bool
	}{{"allNodes", spec.AllNodes}, {"perDeviceNodeSelection", spec.PerDeviceNodeSelection}} {
		switch {
		case flag.value == nil:
		case *flag.value:
			chosen = append(chosen, "`"+flag.name+"`")
		default:
			errs = append(errs, field.Invalid(path.Child(flag.name), false, onlyTrue))
		}
	}
	detail := oneSelection
	if len(chosen) > 1 {
		detail += ", but multiple fields are set"
	}
	return append(errs, exactlyOne(path, chosen, detail)...)
}

func device(d *resourcev1.Device, perDevice bool, path *field.Path) field.ErrorList {
	errs := check.Label(d.Name, path.Child("name"))
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(path, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d",
			resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		a, at := d.Attributes[name], path.Child("attributes")
		errs = append(errs, qualifiedName(string(name), at)...)
		errs = append(errs, attribute(&a, at.Key(string(name)))...)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Capacity)) {
		at := path.Child("capacity")
		errs = append(errs, qualifiedName(string(name), at)...)
		errs = append(errs, capacity(d.Capacity[name], d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations, at.Key(string(name)))...)
	}
	if n := len(d.Taints); n > resourcev1.DeviceTaintsMaxLength {
		errs = append(errs, field.TooMany(path.Child("taints"), n, resourcev1.DeviceTaintsMaxLength))
	} else {
		for i, t := range d.Taints {
			errs = append(errs, taint(&t, path.Child("taints").Index(i))...)
		}
	}
	errs = append(errs, set(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, path.Child("consumesCounters"),
		func(c resourcev1.DeviceCounterConsumption) string { return c.CounterSet },
		func(c resourcev1.DeviceCounterConsumption, at *field.Path) field.ErrorList {
			return append(requireLabel(c.CounterSet, at.Child("counterSet")), counters(c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, at.Child("counters"))...)
		})...)
	errs = append(errs, deviceSelection(d, perDevice, path)...)
	return append(errs, bindings(d.BindingConditions, d.BindingFailureConditions, path)...)
}

func deviceSelection(d *resourcev1.Device, perDevice bool, path *field.Path) field.ErrorList {
	if !perDevice {
		if d.NodeName == nil && d.NodeSelector == nil && d.AllNodes == nil {
			return nil
		}
		return field.ErrorList{field.Invalid(path, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if "+
			"`perDeviceNodeSelection` is set to true in the ResourceSlice spec")}
	}
	var errs field.ErrorList
	var chosen []string
	if name := d.NodeName; name != nil && *name == "" {
		errs = append(errs, field.Invalid(path.Child("nodeName"), *name, "must not be empty"))
	} else if name != nil {
		chosen = append(chosen, "`nodeName`")
		errs = append(errs, check.Subdomain(*name, path.Child("nodeName"))...)
	}
	if d.NodeSelector != nil {
		chosen = append(chosen, "`nodeSelector`")
		errs = append(errs, podspec.ValidateNodeSelector(d.NodeSelector, podspec.Options{}, path.Child("nodeSelector"))...)
	}
	if d.AllNodes != nil && *d.AllNodes {
		chosen = append(chosen, "`allNodes`")
	} else if d.AllNodes != nil {
		errs = append(errs, field.Invalid(path.Child("allNodes"), false, "must be either unset or set to true"))
	}
	return append(errs, exactlyOne(path, chosen,
		"exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec")...)
}
