// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authorization

import (
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
)

func validateSubject(_ kinds.Request, r *authorizationv1.SubjectAccessReview) field.ErrorList {
	return append(validateSpec(&r.Spec), requireEmpty(r.ObjectMeta, "must be empty")...)
}

func validateSelf(_ kinds.Request, r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
	errs := validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	errs = append(errs, validateSelectors(r.Spec.ResourceAttributes)...)
	return append(errs, requireEmpty(r.ObjectMeta, "must be empty")...)
}

func validateLocal(_ kinds.Request, r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	errs := validateSpec(&r.Spec)
	meta := r.ObjectMeta
	meta.Namespace = ""
	errs = append(errs, requireEmpty(meta, "must be empty except for namespace")...)
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("spec.resourceAttributes.namespace"), a.Namespace, "must match metadata.namespace"))
	}
	if a := r.Spec.NonResourceAttributes; a != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec.nonResourceAttributes"), a, "disallowed on this kind of request"))
	}
	return errs
}

// requireEmpty refuses metadata, which a question has none of; managed fields are the server's own.
func requireEmpty(meta metav1.ObjectMeta, detail string) field.ErrorList {
	meta.ManagedFields = nil
	if equal.Semantic(meta, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), meta, detail)}
}

func validateSpec(spec *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateAttributes(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), spec.User, "at least one of user or group must be specified"))
	}
	return append(errs, validateSelectors(spec.ResourceAttributes)...)
}

func validateAttributes(resource *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes) field.ErrorList {
	path := field.NewPath("spec")
	switch {
	case resource != nil && other != nil:
		return field.ErrorList{field.Invalid(path.Child("nonResourceAttributes"), other, "cannot be specified in combination with resourceAttributes")}
	case resource == nil && other == nil:
		return field.ErrorList{field.Invalid(path.Child("resourceAttributes"), other,
			"exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	return nil
}

func validateSelectors(attributes *authorizationv1.ResourceAttributes) field.ErrorList {
	if attributes == nil {
		return nil
	}
	var errs field.ErrorList
	path := field.NewPath("spec.resourceAttributes")
	if s := attributes.FieldSelector; s != nil {
		at := path.Child("fieldSelector")
		errs = append(errs, validateForm(s.RawSelector, len(s.Requirements), at)...)
		opts := metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
		for i := range s.Requirements {
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(s.Requirements[i], opts, at.Child("requirements").Index(i))...)
		}
	}
	if s := attributes.LabelSelector; s != nil {
		at := path.Child("labelSelector")
		errs = append(errs, validateForm(s.RawSelector, len(s.Requirements), at)...)
		opts := metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
		for i := range s.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(s.Requirements[i], opts, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

// validateForm requires a selector either as text or as requirements.
func validateForm(raw string, requirements int, path *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(path.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(path.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", path))}
	}
	return nil
}
