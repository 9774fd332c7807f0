// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
)

func validateQuota(_ kinds.Request, q *corev1.ResourceQuota) field.ErrorList {
	errs := validateQuotaSpec(&q.Spec, field.NewPath("spec"))
	errs = append(errs, validateQuotaList(q.Status.Hard, field.NewPath("status", "hard"))...)
	return append(errs, validateQuotaList(q.Status.Used, field.NewPath("status", "used"))...)
}

func validateQuotaUpdate(_ kinds.Request, new, old *corev1.ResourceQuota) field.ErrorList {
	errs := validateQuotaSpec(&new.Spec, field.NewPath("spec"))
	if !sameScopes(new.Spec.Scopes, old.Spec.Scopes) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "scopes"), new.Spec.Scopes, validation.FieldImmutableErrorMsg))
	}
	return errs
}

func sameScopes(a, b []corev1.ResourceQuotaScope) bool {
	set := func(scopes []corev1.ResourceQuotaScope) []corev1.ResourceQuotaScope {
		return slices.Compact(slices.Sorted(slices.Values(scopes)))
	}
	return slices.Equal(set(a), set(b))
}

func validateQuotaStatus(_ kinds.Request, new, _ *corev1.ResourceQuota) field.ErrorList {
	errs := validateQuotaList(new.Status.Hard, field.NewPath("status", "hard"))
	return append(errs, validateQuotaList(new.Status.Used, field.NewPath("status", "used"))...)
}

func validateQuotaList(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, quantity := range list {
		at := path.Key(string(name))
		errs = append(errs, podspec.ValidateQuotaResourceName(name, at)...)
		errs = append(errs, podspec.ValidateQuantity(name, quantity, at)...)
	}
	return errs
}

func validateQuotaSpec(spec *corev1.ResourceQuotaSpec, path *field.Path) field.ErrorList {
	errs := validateQuotaList(spec.Hard, path.Child("hard"))
	limited := slices.Sorted(maps.Keys(spec.Hard))

	at := path.Child("scopes")
	for _, scope := range spec.Scopes {
		if !knownScope(scope) {
			errs = append(errs, field.Invalid(at, spec.Scopes, "unsupported scope"))
		}
		errs = append(errs, validateScopeFit(scope, limited, spec.Scopes, at)...)
	}
	errs = append(errs, validateScopePairs(spec.Scopes, spec.Scopes, at)...)
	if spec.ScopeSelector == nil {
		return errs
	}
	at = path.Child("scopeSelector", "matchExpressions")
	var scopes []corev1.ResourceQuotaScope
	for _, req := range spec.ScopeSelector.MatchExpressions {
		if !knownScope(req.ScopeName) {
			errs = append(errs, field.Invalid(at.Child("scopeName"), req.ScopeName, "unsupported scope"))
		}
		errs = append(errs, validateScopeFit(req.ScopeName, limited, spec.ScopeSelector, at)...)
		errs = append(errs, validateScopeOperator(req, at)...)
		scopes = append(scopes, req.ScopeName)
	}
	return append(errs, validateScopePairs(scopes, spec.Scopes, at)...)
}

func validateScopeOperator(req corev1.ScopedResourceSelectorRequirement, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch req.ScopeName {
	case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
		corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		if req.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(path.Child("operator"), req.Operator,
				"must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
	case corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeVolumeAttributesClass: // any operator
	}
	switch req.Operator {
	case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
		if len(req.Values) == 0 {
			errs = append(errs, field.Required(path.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
		}
	case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
		if len(req.Values) != 0 {
			errs = append(errs, field.Invalid(path.Child("values"), req.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
		}
	default:
		errs = append(errs, field.Invalid(path.Child("operator"), req.Operator, "not a valid selector operator"))
	}
	return errs
}

// validateScopeFit requires that every limited resource is one that objects in the scope use.
func validateScopeFit(scope corev1.ResourceQuotaScope, limited []corev1.ResourceName, value any, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range limited {
		if podspec.IsQuotaResource(name) && !scopeCovers(scope, name) {
			errs = append(errs, field.Invalid(path, value, "unsupported scope applied to resource"))
		}
	}
	return errs
}

func validateScopePairs(scopes []corev1.ResourceQuotaScope, value any, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if slices.Contains(scopes, pair[0]) && slices.Contains(scopes, pair[1]) {
			errs = append(errs, field.Invalid(path, value, "conflicting scopes"))
		}
	}
	return errs
}

func knownScope(scope corev1.ResourceQuotaScope) bool {
	switch scope {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass,
		corev1.ResourceQuotaScopeVolumeAttributesClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return true
	}
	return false
}

// scopeCovers reports whether the objects in a scope can use a resource.
func scopeCovers(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeNotBestEffort,
		corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		switch name {
		case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
			corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory:
			return true
		default:
			return false
		}
	}
	return true
}
