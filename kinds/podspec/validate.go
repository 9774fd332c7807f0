// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podspec holds what pods and all kinds with a pod template share: defaults, validation, rules of updates and
// warnings of a pod spec. Each file is named after the part of the spec that it judges.
package podspec

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/objectmeta"
)

// Validate judges a pod spec. meta is the metadata of the pod or template that holds it.
func Validate(spec *corev1.PodSpec, meta *metav1.ObjectMeta, opts Options, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	_ = opts
	if len(spec.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	return errs
}

// ValidateTemplate judges a pod template.
func ValidateTemplate(template *corev1.PodTemplateSpec, opts Options, path *field.Path) field.ErrorList {
	errs := objectmeta.ValidateLabels(template.Labels, path.Child("labels"))
	errs = append(errs, objectmeta.ValidateAnnotations(template.Annotations, path.Child("annotations"))...)
	return append(errs, Validate(&template.Spec, nil, opts, path.Child("spec"))...)
}
