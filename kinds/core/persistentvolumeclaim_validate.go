// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

func validateClaim(_ kinds.Request, c *corev1.PersistentVolumeClaim) field.ErrorList {
	return podspec.ValidateClaimSpec(&c.Spec, nil, field.NewPath("spec"))
}

// validateClaimUpdate keeps a claim as it was created, but for its size and volume attributes class once it is bound,
// the volume that it is bound to, and a class that was not yet known.
func validateClaimUpdate(_ kinds.Request, new, old *corev1.PersistentVolumeClaim) field.ErrorList {
	spec := field.NewPath("spec")
	errs := podspec.ValidateClaimSpec(&new.Spec, &old.Spec, spec)

	after, before := new.Spec.DeepCopy(), old.Spec.DeepCopy()
	pairSources(before)
	if before.VolumeName == "" {
		before.VolumeName = after.VolumeName
	}
	errs = append(errs, settleClass(new, old, after, before)...)
	if new.Status.Phase == corev1.ClaimBound {
		if after.Resources.Requests != nil {
			after.Resources.Requests[corev1.ResourceStorage] = before.Resources.Requests[corev1.ResourceStorage]
		}
		after.VolumeAttributesClassName = before.VolumeAttributesClassName
	}
	if !equal.Semantic(after, before) {
		errs = append(errs, field.Forbidden(spec, fmt.Sprintf(
			"spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", difference(*before, *after),
		)))
	}
	size, had := new.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if have := old.Status.Capacity[corev1.ResourceStorage]; size.Cmp(had) < 0 && size.Cmp(have) <= 0 {
		errs = append(errs, field.Forbidden(spec.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, check.Immutable(new.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Status.CurrentVolumeAttributesClassName != nil && !equal.Semantic(new.Spec.VolumeAttributesClassName, old.Spec.VolumeAttributesClassName) {
		at, class := spec.Child("volumeAttributesClassName"), new.Spec.VolumeAttributesClassName
		switch {
		case class == nil:
			errs = append(errs, field.Forbidden(at, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"))
		case *class == "":
			errs = append(errs, field.Forbidden(at, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"))
		}
	}
	return errs
}

// settleClass admits a storage class where there was none, or where the annotation that came before the field named it.
func settleClass(new, old *corev1.PersistentVolumeClaim, after, before *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	key := corev1.BetaStorageClassAnnotation
	annotated, hadAnnotation := old.Annotations[key]
	now, hasAnnotation := new.Annotations[key]
	first := before.StorageClassName == nil && after.StorageClassName != nil
	if first && hadAnnotation && *after.StorageClassName == annotated && (!hasAnnotation || now == annotated) {
		after.StorageClassName = nil
		return nil
	}
	if first && (!hadAnnotation || *after.StorageClassName == annotated) {
		after.StorageClassName = before.StorageClassName
	}
	if now != annotated {
		return field.ErrorList{field.Invalid(field.NewPath("metadata").Child("annotations", key), now, validation.FieldImmutableErrorMsg)}
	}
	return nil
}

func validateClaimStatus(_ kinds.Request, new, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	if len(new.Spec.AccessModes) == 0 {
		errs = append(errs, field.Required(field.NewPath("Spec", "accessModes"), ""))
	}
	status := field.NewPath("status")
	for name, quantity := range new.Status.Capacity {
		if quantity.Value() < 0 {
			errs = append(errs, field.Invalid(status.Child("capacity").Key(string(name)), quantity.Value(), "must be a valid resource quantity"))
		}
	}
	resizing := status.Child("allocatedResourceStatuses")
	for name, state := range new.Status.AllocatedResourceStatuses {
		errs = append(errs, validateClaimResource(name, resizing)...)
		if len(supported(state, resizing, resizeStates()...)) > 0 {
			errs = append(errs, field.NotSupported(resizing, name, resizeStates()))
		}
	}
	allocated := status.Child("allocatedResources")
	for name, quantity := range new.Status.AllocatedResources {
		if bad := validateClaimResource(name, allocated); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		at := allocated.Key(string(name))
		if quantity.Value() < 0 {
			errs = append(errs, field.Invalid(at, quantity.Value(), "must be a valid resource quantity"))
			continue
		}
		errs = append(errs, podspec.ValidateQuantity(corev1.ResourceStorage, quantity, at)...)
	}
	return errs
}

func resizeStates() []corev1.ClaimResourceStatus {
	return []corev1.ClaimResourceStatus{
		corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
		corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible,
		corev1.PersistentVolumeClaimNodeResizePending,
	}
}

// validateClaimResource admits storage and what drivers name themselves.
func validateClaimResource(name corev1.ResourceName, path *field.Path) field.ErrorList {
	if msgs := utilvalidation.IsQualifiedName(string(name)); len(msgs) > 0 {
		return check.Messages(path, string(name), msgs)
	}
	native := !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
	if native && name != corev1.ResourceStorage {
		return field.ErrorList{field.NotSupported(path, string(name), []corev1.ResourceName{corev1.ResourceStorage})}
	}
	return nil
}
