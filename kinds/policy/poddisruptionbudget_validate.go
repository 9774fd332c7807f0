// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

func validate(_ kinds.Request, b *policyv1.PodDisruptionBudget) field.ErrorList {
	return validateSpec(&b.Spec, nil, field.NewPath("spec"))
}

func validateUpdate(_ kinds.Request, new, old *policyv1.PodDisruptionBudget) field.ErrorList {
	return validateSpec(&new.Spec, old.Spec.Selector, field.NewPath("spec"))
}

func validateSpec(spec *policyv1.PodDisruptionBudgetSpec, oldSelector *metav1.LabelSelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.MinAvailable != nil && spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, *spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	for _, bound := range []struct {
		name  string
		value *intstr.IntOrString
	}{{"minAvailable", spec.MinAvailable}, {"maxUnavailable", spec.MaxUnavailable}} {
		if bound.value != nil {
			errs = append(errs, check.IntOrPercent(*bound.value, path.Child(bound.name))...)
			errs = append(errs, check.AtMost100Percent(*bound.value, path.Child(bound.name))...)
		}
	}
	errs = append(errs, check.LenientSelector(spec.Selector, oldSelector, path.Child("selector"))...)
	allowed := []policyv1.UnhealthyPodEvictionPolicyType{policyv1.AlwaysAllow, policyv1.IfHealthyBudget}
	if p := spec.UnhealthyPodEvictionPolicy; p != nil && *p != allowed[0] && *p != allowed[1] {
		errs = append(errs, field.NotSupported(path.Child("unhealthyPodEvictionPolicy"), *p, allowed))
	}
	return errs
}

func validateStatus(_ kinds.Request, new, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	path, s := field.NewPath("status"), &new.Status
	errs := metav1validation.ValidateConditions(s.Conditions, path.Child("conditions"))
	return append(errs, check.Counts(path,
		check.Count{Field: "disruptionsAllowed", Value: int64(s.DisruptionsAllowed)},
		check.Count{Field: "currentHealthy", Value: int64(s.CurrentHealthy)},
		check.Count{Field: "desiredHealthy", Value: int64(s.DesiredHealthy)},
		check.Count{Field: "expectedPods", Value: int64(s.ExpectedPods)},
	)...)
}
