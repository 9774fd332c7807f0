// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admissionregistration

import (
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
)

func validateMutatingPolicy(_ kinds.Request, p *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	return validateMutatingSpec(&p.Spec, false)
}

func validateMutatingPolicyUpdate(_ kinds.Request, new, old *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	same := equality.Semantic.DeepEqual(new.Spec.ParamKind, old.Spec.ParamKind) &&
		equality.Semantic.DeepEqual(new.Spec.MatchConditions, old.Spec.MatchConditions)
	return validateMutatingSpec(&new.Spec, same)
}

func validateMutatingSpec(spec *admissionregistrationv1.MutatingAdmissionPolicySpec, sameConditions bool) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateCommon(spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, path)
	errs = append(errs, validateMutatingOperations(spec.MatchConstraints, path.Child("matchConstraints"))...)
	if !sameConditions {
		errs = append(errs, validateMatchConditions(spec.MatchConditions, path.Child("matchConditions"))...)
	}
	errs = append(errs, validateVariables(spec.Variables, path.Child("variables"))...)
	if len(spec.Mutations) == 0 {
		errs = append(errs, field.Required(path.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range spec.Mutations {
		errs = append(errs, validateMutation(&spec.Mutations[i], path.Child("mutations").Index(i))...)
	}
	at := path.Child("reinvocationPolicy")
	if spec.ReinvocationPolicy == "" {
		return append(errs, field.Required(at, ""))
	}
	return append(errs, optionalOneOf(&spec.ReinvocationPolicy, at,
		admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
}

// validateMutatingOperations refuses DELETE: there is nothing left to change.
func validateMutatingOperations(match *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	if match == nil {
		return nil
	}
	known := []admissionregistrationv1.OperationType{
		admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Update,
	}
	var errs field.ErrorList
	for i := range match.ResourceRules {
		for _, operation := range match.ResourceRules[i].Operations {
			if !slices.Contains(known, operation) {
				errs = append(errs, field.NotSupported(path.Child("resourceRules", "operations"), operation, known))
			}
		}
	}
	return errs
}

func validateMutation(m *admissionregistrationv1.Mutation, path *field.Path) field.ErrorList {
	apply, patch := path.Child("applyConfiguration"), path.Child("jsonPatch")
	var errs field.ErrorList
	switch m.PatchType {
	case "":
		return field.ErrorList{field.Required(path.Child("patchType"), "")}
	case admissionregistrationv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			errs = append(errs, field.Required(patch, "must be specified when patchType is JSONPatch"))
		} else if strings.TrimSpace(m.JSONPatch.Expression) == "" {
			errs = append(errs, field.Required(patch.Child("expression"), ""))
		}
		if m.ApplyConfiguration != nil {
			errs = append(errs, field.Invalid(apply, "{applyConfiguration}", "must not be specified when patchType is JSONPatch"))
		}
	case admissionregistrationv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			errs = append(errs, field.Required(apply, "must be specified when patchType is ApplyConfiguration"))
		} else if strings.TrimSpace(m.ApplyConfiguration.Expression) == "" {
			errs = append(errs, field.Required(apply.Child("expression"), ""))
		}
		if m.JSONPatch != nil {
			errs = append(errs, field.Invalid(patch, "{jsonPatch}", "must not be specified when patchType is ApplyConfiguration"))
		}
	default:
		return field.ErrorList{field.NotSupported(path.Child("patchType"), m.PatchType,
			[]admissionregistrationv1.PatchType{admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch})}
	}
	return errs
}

func validateMutatingBinding(_ kinds.Request, b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, path)
	return append(errs, validateMutatingOperations(b.Spec.MatchResources, path.Child("matchResources"))...)
}

func validateMutatingBindingUpdate(req kinds.Request, new, _ *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	return validateMutatingBinding(req, new)
}
