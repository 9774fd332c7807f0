// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of a class's parameters.
const (
	maxParameters    = 512
	maxParameterSize = 256 << 10 // bytes, keys and values together
)

func validateStorageClass(_ kinds.Request, c *storagev1.StorageClass) field.ErrorList {
	errs := validateProvisioner(c.Provisioner, field.NewPath("provisioner"))
	errs = append(errs, validateParameters(c.Parameters, field.NewPath("parameters"))...)
	policies := []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain}
	if p := c.ReclaimPolicy; p != nil && *p != "" && *p != policies[0] && *p != policies[1] {
		errs = append(errs, field.NotSupported(field.NewPath("reclaimPolicy"), p, policies))
	}
	modes := []storagev1.VolumeBindingMode{storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer}
	if m := c.VolumeBindingMode; m == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else if *m != modes[0] && *m != modes[1] {
		errs = append(errs, field.NotSupported(field.NewPath("volumeBindingMode"), m, modes))
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

func validateStorageClassUpdate(req kinds.Request, new, old *storagev1.StorageClass) field.ErrorList {
	errs := validateStorageClass(req, new)
	errs = append(errs, check.Immutable(new.Parameters, old.Parameters, field.NewPath("parameters"))...)
	errs = append(errs, check.Immutable(new.Provisioner, old.Provisioner, field.NewPath("provisioner"))...)
	errs = append(errs, check.Immutable(new.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy"))...)
	return append(errs, check.Immutable(new.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}

func validateProvisioner(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return check.QualifiedName(strings.ToLower(name), path)
}

func validateParameters(parameters map[string]string, path *field.Path) field.ErrorList {
	if len(parameters) > maxParameters {
		return field.ErrorList{field.TooLong(path, "", maxParameters)}
	}
	var errs field.ErrorList
	size := 0
	for key, value := range parameters {
		if key == "" {
			errs = append(errs, field.Invalid(path, key, "field can not be empty."))
		}
		size += len(key) + len(value)
	}
	if size > maxParameterSize {
		errs = append(errs, field.TooLong(path, "", maxParameterSize))
	}
	return errs
}

func validateTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	// Clients have always been told of a term without requirements as if it were there twice.
	known := make([]map[string]sets.Set[string], len(terms))
	for i, term := range terms {
		parsed := map[string]sets.Set[string]{}
		at := path.Index(i).Child("matchLabelExpressions")
		for k, requirement := range term.MatchLabelExpressions {
			values, found := validateRequirement(&requirement, at.Index(k))
			errs = append(errs, found...)
			if _, twice := parsed[requirement.Key]; twice {
				errs = append(errs, field.Duplicate(at.Index(k).Child("key"), requirement.Key))
			}
			parsed[requirement.Key] = values
		}
		for _, other := range known {
			if equal.Semantic(parsed, other) {
				errs = append(errs, field.Duplicate(at, ""))
			}
		}
		known = append(known, parsed)
	}
	return errs
}

func validateRequirement(r *corev1.TopologySelectorLabelRequirement, path *field.Path) (sets.Set[string], field.ErrorList) {
	var errs field.ErrorList
	values := sets.New[string]()
	if len(r.Values) == 0 {
		errs = append(errs, field.Required(path.Child("values"), ""))
	}
	for i, value := range r.Values {
		if values.Has(value) {
			errs = append(errs, field.Duplicate(path.Child("values").Index(i), value))
		}
		values.Insert(value)
	}
	return values, append(errs, check.Messages(path.Child("key"), r.Key, utilvalidation.IsQualifiedName(r.Key))...)
}

func validateVolumeAttributesClass(_ kinds.Request, c *storagev1.VolumeAttributesClass) field.ErrorList {
	path := field.NewPath("parameters")
	errs := validateProvisioner(c.DriverName, field.NewPath("driverName"))
	errs = append(errs, validateParameters(c.Parameters, path)...)
	if len(c.Parameters) == 0 {
		errs = append(errs, field.Required(path, "must contain at least one key/value pair"))
	}
	return errs
}

func validateVolumeAttributesClassUpdate(req kinds.Request, new, old *storagev1.VolumeAttributesClass) field.ErrorList {
	var errs field.ErrorList
	if new.DriverName != old.DriverName {
		errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
	}
	if !reflect.DeepEqual(new.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	return append(errs, validateVolumeAttributesClass(req, new)...)
}
