// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// pathSegment is the rule of names in this group: anything that fits between two slashes of a URL.
func pathSegment(name string, _ bool) []string { return content.IsPathSegmentName(name) }

func validateRole(_ kinds.Request, r *rbacv1.Role) field.ErrorList {
	var errs field.ErrorList
	for i := range r.Rules {
		at := field.NewPath("rules").Index(i)
		if urls := r.Rules[i].NonResourceURLs; len(urls) > 0 {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), urls, "namespaced rules cannot apply to non-resource URLs"))
		}
		errs = append(errs, validateRule(&r.Rules[i], at)...)
	}
	return errs
}

// validateClusterRole takes a nil old on create.
func validateClusterRole(_ kinds.Request, new, old *rbacv1.ClusterRole) field.ErrorList {
	var errs field.ErrorList
	for i := range new.Rules {
		errs = append(errs, validateRule(&new.Rules[i], field.NewPath("rules").Index(i))...)
	}
	if new.AggregationRule == nil {
		return errs
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	selectors := new.AggregationRule.ClusterRoleSelectors
	if len(selectors) == 0 {
		errs = append(errs, field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	lenient := old != nil && old.AggregationRule != nil && hasInvalid(old.AggregationRule)
	for i := range selectors {
		tolerated := &selectors[i]
		if !lenient {
			tolerated = nil
		}
		errs = append(errs, check.LenientSelector(&selectors[i], tolerated, at.Index(i))...)
		if parsed, err := metav1.LabelSelectorAsSelector(&selectors[i]); err != nil {
			errs = append(errs, field.Invalid(at.Index(i), parsed, "invalid label selector."))
		}
	}
	return errs
}

func hasInvalid(rule *rbacv1.AggregationRule) bool {
	for i := range rule.ClusterRoleSelectors {
		if check.HasInvalidValue(&rule.ClusterRoleSelectors[i]) {
			return true
		}
	}
	return false
}

func validateRule(rule *rbacv1.PolicyRule, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(rule.Verbs) == 0 {
		errs = append(errs, field.Required(at.Child("verbs"), "verbs must contain at least one value"))
	}
	if len(rule.NonResourceURLs) > 0 {
		if len(rule.APIGroups) > 0 || len(rule.Resources) > 0 || len(rule.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs,
				"rules cannot apply to both regular resources and non-resource URLs"))
		}
		return errs
	}
	if len(rule.APIGroups) == 0 {
		errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(rule.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
	}
	return errs
}
