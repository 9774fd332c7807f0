// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

// ValidateAccessModes judges how a volume may be mounted. empty is what to say when nothing is.
func ValidateAccessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path, empty string) field.ErrorList {
	var errs field.ErrorList
	if len(modes) == 0 {
		errs = append(errs, field.Required(at, empty))
	}
	known := []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	alone, others := false, false
	for _, mode := range modes {
		errs = append(errs, oneOf(mode, at, known...)...)
		if mode == corev1.ReadWriteOncePod {
			alone = true
		} else if slices.Contains(known, mode) {
			others = true
		}
	}
	if alone && others {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// ValidateClaimSpec judges the spec of a persistent volume claim, or of a claim template in a pod or stateful set. With
// the stored spec that it replaces, it overlooks what that one breaks already.
func ValidateClaimSpec(spec, old *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	errs := ValidateAccessModes(spec.AccessModes, at.Child("accessModes"), "at least 1 access mode is required")
	var tolerance objectmeta.Tolerance
	anyGroup := false
	if old != nil {
		tolerance.InvalidLabelValues = len(objectmeta.ValidateLabelSelector(old.Selector, objectmeta.Tolerance{}, nil)) > 0
		anyGroup = old.DataSource != nil && old.DataSource.APIGroup != nil || old.DataSourceRef != nil && old.DataSourceRef.APIGroup != nil
	}
	errs = append(errs, objectmeta.ValidateLabelSelector(spec.Selector, tolerance, at.Child("selector"))...)
	size, ok := spec.Resources.Requests[corev1.ResourceStorage]
	path := at.Child("resources").Key(string(corev1.ResourceStorage))
	if !ok {
		errs = append(errs, field.Required(path, ""))
	} else {
		errs = append(errs, ValidatePositive(size, path)...)
	}
	if class := spec.StorageClassName; class != nil && *class != "" {
		errs = append(errs, check.Subdomain(*class, at.Child("storageClassName"))...)
	}
	if spec.VolumeMode != nil {
		errs = append(errs, oneOf(*spec.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	errs = append(errs, validateDataSources(spec, anyGroup, at)...)
	if class := spec.VolumeAttributesClassName; class != nil && *class != "" {
		errs = append(errs, check.Subdomain(*class, at.Child("volumeAttributesClassName"))...)
	}
	return errs
}

func validateDataSources(spec *corev1.PersistentVolumeClaimSpec, anyGroup bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	source, ref := spec.DataSource, spec.DataSourceRef
	if source != nil {
		errs = append(errs, validateDataSource(source.APIGroup, source.Kind, source.Name, anyGroup, at.Child("dataSource"))...)
	}
	if ref == nil {
		return errs
	}
	errs = append(errs, validateDataSource(ref.APIGroup, ref.Kind, ref.Name, anyGroup, at.Child("dataSourceRef"))...)
	elsewhere := ref.Namespace != nil && *ref.Namespace != ""
	if elsewhere {
		errs = append(errs, check.Messages(at.Child("dataSourceRef", "namespace"), *ref.Namespace, validation.IsDNS1123Label(*ref.Namespace))...)
	}
	if source == nil {
		return errs
	}
	switch {
	case elsewhere:
		errs = append(errs, field.Invalid(at, at.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified"))
	case !reflect.DeepEqual(source.APIGroup, ref.APIGroup) || source.Kind != ref.Kind || source.Name != ref.Name:
		errs = append(errs, field.Invalid(at, at.Child("dataSource"), "must match dataSourceRef"))
	}
	return errs
}

func validateDataSource(apiGroup *string, kind, name string, anyGroup bool, at *field.Path) field.ErrorList {
	errs := Require(at, "name", name, "kind", kind)
	group := ""
	if apiGroup != nil {
		group = *apiGroup
	}
	if group == "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	if group != "" && !anyGroup {
		errs = append(errs, check.Subdomain(group, at.Child("apiGroup"))...)
	}
	return errs
}

// ClaimWarnings warns of sizes that are no whole number of bytes.
func ClaimWarnings(spec *corev1.PersistentVolumeClaimSpec, at *field.Path) []string {
	var warnings []string
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"requests", spec.Resources.Requests}, {"limits", spec.Resources.Limits}} {
		if size := l.list[corev1.ResourceStorage]; size.MilliValue()%milliScale != 0 {
			warnings = append(warnings, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer",
				at.Child("resources", l.name).Key(string(corev1.ResourceStorage)), size.String()))
		}
	}
	return warnings
}
