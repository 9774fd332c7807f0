// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

func validateLimitRangeUpdate(req kinds.Request, new, _ *corev1.LimitRange) field.ErrorList {
	return validateLimitRange(req, new)
}

func validateLimitRange(_ kinds.Request, r *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.LimitType]bool{}
	for i := range r.Spec.Limits {
		path, item := field.NewPath("spec", "limits").Index(i), &r.Spec.Limits[i]
		errs = append(errs, validateLimitType(item.Type, path.Child("type"))...)
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(path.Child("type"), item.Type))
		}
		seen[item.Type] = true
		errs = append(errs, validateLimitItem(item, path)...)
	}
	return errs
}

func validateLimitType(t corev1.LimitType, path *field.Path) field.ErrorList {
	if msgs := validation.IsQualifiedName(string(t)); len(msgs) > 0 {
		return check.Messages(path, t, msgs)
	}
	switch t {
	case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
		return nil
	}
	if strings.Contains(string(t), "/") {
		return nil
	}
	return field.ErrorList{field.Invalid(path, t, "must be a standard limit type or fully qualified")}
}

func validateLimitItem(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[corev1.ResourceName]bool{}
	list := func(name string, l corev1.ResourceList) {
		for resourceName := range l {
			names[resourceName] = true
			errs = append(errs, validateLimitResource(item.Type, resourceName, path.Child(name).Key(string(resourceName)))...)
		}
	}
	list("max", item.Max)
	list("min", item.Min)
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			errs = append(errs, field.Forbidden(path.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(item.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(path.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	} else {
		list("default", item.Default)
		list("defaultRequest", item.DefaultRequest)
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, hasMin := item.Min[corev1.ResourceStorage]
		_, hasMax := item.Max[corev1.ResourceStorage]
		if !hasMin && !hasMax {
			errs = append(errs, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	list("maxLimitRequestRatio", item.MaxLimitRequestRatio)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		errs = append(errs, validateLimitOrder(item, name, path)...)
		errs = append(errs, validateLimitRatio(item, name, path)...)
	}
	return errs
}

func validateLimitResource(t corev1.LimitType, name corev1.ResourceName, path *field.Path) field.ErrorList {
	if t == corev1.LimitTypePod || t == corev1.LimitTypeContainer {
		return podspec.ValidateContainerResourceName(name, path)
	}
	return podspec.ValidateResourceName(name, path)
}

// validateLimitOrder requires min <= default request <= default limit <= max for one resource, as far as they are given.
func validateLimitOrder(item *corev1.LimitRangeItem, name corev1.ResourceName, path *field.Path) field.ErrorList {
	low, hasLow := item.Min[name]
	high, hasHigh := item.Max[name]
	limit, hasLimit := item.Default[name]
	request, hasRequest := item.DefaultRequest[name]
	if item.Type == corev1.LimitTypePod {
		hasLimit, hasRequest = false, false
	}
	var errs field.ErrorList
	for _, rule := range []struct {
		applies      bool
		small, large resource.Quantity
		name         string
		value        resource.Quantity
		format       string
	}{
		{hasLow && hasHigh, low, high, "min", low, "min value %s is greater than max value %s"},
		{hasRequest && hasLow, low, request, "defaultRequest", request, "min value %s is greater than default request value %s"},
		{hasRequest && hasHigh, request, high, "defaultRequest", request, "default request value %s is greater than max value %s"},
		{hasRequest && hasLimit, request, limit, "defaultRequest", request, "default request value %s is greater than default limit value %s"},
		{hasLimit && hasLow, low, limit, "default", low, "min value %s is greater than default value %s"},
		{hasLimit && hasHigh, limit, high, "default", high, "default value %s is greater than max value %s"},
	} {
		if rule.applies && rule.small.Cmp(rule.large) > 0 {
			errs = append(errs, field.Invalid(path.Child(rule.name).Key(string(name)), rule.value,
				fmt.Sprintf(rule.format, rule.small.String(), rule.large.String())))
		}
	}
	if hasLimit && hasRequest && !podspec.IsOvercommittable(name) && limit.Cmp(request) != 0 {
		errs = append(errs, field.Invalid(path.Child("defaultRequest").Key(string(name)), request,
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.String(), request.String(), name)))
	}
	return errs
}

func validateLimitRatio(item *corev1.LimitRangeItem, name corev1.ResourceName, path *field.Path) field.ErrorList {
	ratio, ok := item.MaxLimitRequestRatio[name]
	if !ok {
		return nil
	}
	at := path.Child("maxLimitRequestRatio").Key(string(name))
	var errs field.ErrorList
	if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		errs = append(errs, field.Invalid(at, ratio, fmt.Sprintf("ratio %s is less than 1", ratio.String())))
	}
	low, hasLow := item.Min[name]
	high, hasHigh := item.Max[name]
	if !hasLow || !hasHigh {
		return errs
	}
	// Thousandths are exact where they do not overflow.
	value, small, large := float64(ratio.Value()), low.Value(), high.Value()
	if ratio.Value() < resource.MaxMilliValue && small < resource.MaxMilliValue && large < resource.MaxMilliValue {
		value, small, large = float64(ratio.MilliValue())/1000, low.MilliValue(), high.MilliValue()
	}
	if most := float64(large) / float64(small); value > most {
		errs = append(errs, field.Invalid(at, ratio, fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), most)))
	}
	return errs
}
