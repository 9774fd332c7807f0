// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"maps"
	"slices"

	"github.com/blang/semver/v4"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
)

// bindings judges the conditions that make a device ready, and those that make it fail: only together, and distinct.
func bindings(ready, failed []string, path *field.Path) field.ErrorList {
	readyAt, failedAt := path.Child("bindingConditions"), path.Child("bindingFailureConditions")
	errs := conditions(ready, resourcev1.BindingConditionsMaxSize, readyAt)
	errs = append(errs, conditions(failed, resourcev1.BindingFailureConditionsMaxSize, failedAt)...)
	for i, c := range failed {
		if slices.Contains(ready, c) {
			errs = append(errs, field.Invalid(failedAt.Index(i), c, "bindingFailureConditions must not overlap with bindingConditions"))
		}
	}
	if len(ready) == 0 && len(failed) > 0 {
		errs = append(errs, field.Invalid(readyAt, ready, "bindingConditions are required to use bindingFailureConditions"))
	}
	if len(failed) == 0 && len(ready) > 0 {
		errs = append(errs, field.Invalid(failedAt, failed, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}

// conditions judges names of conditions; unlike elsewhere, a list that is too long is also searched for duplicates.
func conditions(list []string, bound int, path *field.Path) field.ErrorList {
	if n := len(list); n > bound {
		return append(field.ErrorList{field.TooMany(path, n, bound)}, set(list, -1, path, same, func(string, *field.Path) field.ErrorList { return nil })...)
	}
	return set(list, bound, path, same, metav1validation.ValidateLabelName)
}

// share judges the id of one share of a device, where there is one.
func share[T ~string](id *T, path *field.Path) field.ErrorList {
	return validate.UUID(context.Background(), operation.Operation{}, path, id, nil)
}

// deviceStatus judges what a driver reports of an allocated device.
func deviceStatus(d *resourcev1.AllocatedDeviceStatus, path *field.Path) field.ErrorList {
	errs := requireDriver(d.Driver, path.Child("driver"))
	errs = append(errs, requirePool(d.Pool, path.Child("pool"))...)
	errs = append(errs, check.Label(d.Device, path.Child("device"))...)
	errs = append(errs, share(d.ShareID, path.Child("shareID"))...)
	if n := len(d.Conditions); n > resourcev1.AllocatedDeviceStatusMaxConditions {
		errs = append(errs, field.TooMany(path.Child("conditions"), n, resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	errs = append(errs, metav1validation.ValidateConditions(d.Conditions, path.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, rawObject(*d.Data, path.Child("data"), resourcev1.AllocatedDeviceStatusDataMaxLength)...)
	}
	n, path := d.NetworkData, path.Child("networkData")
	if n == nil {
		return errs
	}
	if len(n.InterfaceName) > resourcev1.NetworkDeviceDataInterfaceNameMaxLength {
		errs = append(errs, field.TooLong(path.Child("interfaceName"), "", resourcev1.NetworkDeviceDataInterfaceNameMaxLength))
	}
	if len(n.HardwareAddress) > resourcev1.NetworkDeviceDataHardwareAddressMaxLength {
		errs = append(errs, field.TooLong(path.Child("hardwareAddress"), "", resourcev1.NetworkDeviceDataHardwareAddressMaxLength))
	}
	return append(errs, set(n.IPs, resourcev1.NetworkDeviceDataMaxIPs, path.Child("ips"), same,
		func(address string, at *field.Path) field.ErrorList {
			return utilvalidation.IsValidInterfaceAddress(at, address)
		})...)
}

func tolerations(list []resourcev1.DeviceToleration, path *field.Path) field.ErrorList {
	operators := []resourcev1.DeviceTolerationOperator{resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists}
	var errs field.ErrorList
	for i, t := range list {
		at := path.Index(i)
		if t.Key != "" {
			errs = append(errs, check.QualifiedName(t.Key, at.Child("key"))...)
		}
		switch {
		case t.Operator == resourcev1.DeviceTolerationOpExists && t.Value != "":
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`"))
		case t.Operator == resourcev1.DeviceTolerationOpEqual:
			errs = append(errs, check.Messages(at.Child("value"), t.Value, utilvalidation.IsValidLabelValue(t.Value))...)
		case t.Operator == "":
			errs = append(errs, field.Required(at.Child("operator"), ""))
		case !contains(operators, t.Operator):
			errs = append(errs, field.NotSupported(at.Child("operator"), t.Operator, operators))
		}
		if t.Effect != "" {
			errs = append(errs, effect(t.Effect, at.Child("effect"))...)
		}
	}
	return errs
}

func taint(t *resourcev1.DeviceTaint, path *field.Path) field.ErrorList {
	errs := check.QualifiedName(t.Key, path.Child("key"))
	if t.Value != "" {
		errs = append(errs, check.Messages(path.Child("value"), t.Value, utilvalidation.IsValidLabelValue(t.Value))...)
	}
	if t.Effect == "" {
		return append(errs, field.Required(path.Child("effect"), ""))
	}
	return append(errs, effect(t.Effect, path.Child("effect"))...)
}

func effect(e resourcev1.DeviceTaintEffect, path *field.Path) field.ErrorList {
	effects := []resourcev1.DeviceTaintEffect{resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone}
	if contains(effects, e) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, e, effects)}
}

func attribute(a *resourcev1.DeviceAttribute, path *field.Path) field.ErrorList {
	values := 0
	for _, set := range []bool{
		a.IntValue != nil, a.BoolValue != nil, a.StringValue != nil, a.VersionValue != nil,
		a.IntValues != nil, a.BoolValues != nil, a.StringValues != nil, a.VersionValues != nil,
	} {
		if set {
			values++
		}
	}
	var errs field.ErrorList
	if values != 1 {
		errs = append(errs, field.Invalid(path, a, "exactly one value must be specified"))
	}
	if a.StringValue != nil {
		errs = append(errs, bounded(*a.StringValue, path.Child("string"))...)
	}
	if a.VersionValue != nil {
		errs = append(errs, semantic(*a.VersionValue, path.Child("version"))...)
	}
	for name, empty := range map[string]bool{
		"bools": a.BoolValues != nil && len(a.BoolValues) == 0, "ints": a.IntValues != nil && len(a.IntValues) == 0,
		"strings": a.StringValues != nil && len(a.StringValues) == 0, "versions": a.VersionValues != nil && len(a.VersionValues) == 0,
	} {
		if empty {
			errs = append(errs, field.Invalid(path.Child(name), []string{}, "must not be empty if specified"))
		}
	}
	for i, text := range a.StringValues {
		errs = append(errs, bounded(text, path.Child("strings").Index(i))...)
	}
	for i, text := range a.VersionValues {
		errs = append(errs, semantic(text, path.Child("versions").Index(i))...)
	}
	return errs
}

func bounded(text string, path *field.Path) field.ErrorList {
	if len(text) > resourcev1.DeviceAttributeMaxValueLength {
		return field.ErrorList{field.TooLong(path, "", resourcev1.DeviceAttributeMaxValueLength)}
	}
	return nil
}

func semantic(text string, path *field.Path) field.ErrorList {
	errs := bounded(text, path)
	if _, err := semver.Parse(text); err != nil {
		errs = append(errs, field.Invalid(path, text, "must be a string compatible with semver.org spec 2.0.0"))
	}
	return errs
}

// counters judges amounts of what devices share; any amount is good.
func counters(list map[string]resourcev1.Counter, bound int, path *field.Path) field.ErrorList {
	switch n := len(list); {
	case n == 0:
		return field.ErrorList{field.Required(path, "")}
	case n > bound:
		return field.ErrorList{field.TooMany(path, n, bound)}
	}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(list)) {
		errs = append(errs, check.Label(name, path)...)
	}
	return errs
}
