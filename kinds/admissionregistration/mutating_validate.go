// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admissionregistration

import (
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	celtypes "github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
)

func (e *expressions) validateMutatingPolicy(_ kinds.Request, p *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	return e.validateMutatingSpec(&p.Spec, nil, false)
}

func (e *expressions) validateMutatingPolicyUpdate(_ kinds.Request, new, old *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
	same := equal.Semantic(new.Spec.ParamKind, old.Spec.ParamKind) &&
		equal.Semantic(new.Spec.MatchConditions, old.Spec.MatchConditions)
	stored := map[string]bool{}
	for _, c := range old.Spec.MatchConditions {
		stored[c.Expression] = true
	}
	for _, v := range old.Spec.Variables {
		stored[v.Expression] = true
	}
	for _, m := range old.Spec.Mutations {
		if m.ApplyConfiguration != nil {
			stored[m.ApplyConfiguration.Expression] = true
		}
		if m.JSONPatch != nil {
			stored[m.JSONPatch.Expression] = true
		}
	}
	return e.validateMutatingSpec(&new.Spec, stored, same)
}

func (e *expressions) validateMutatingSpec(spec *admissionregistrationv1.MutatingAdmissionPolicySpec, stored map[string]bool, sameConditions bool) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateCommon(spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, path)
	errs = append(errs, validateMutatingOperations(spec.MatchConstraints, path.Child("matchConstraints"))...)
	if !sameConditions {
		plain := func() scope { return e.plain(spec.ParamKind != nil, stored) }
		errs = append(errs, validateMatchConditions(spec.MatchConditions, plain, path.Child("matchConditions"))...)
	}
	in, found := e.withVariables(spec.ParamKind != nil, stored, path)
	errs = append(errs, found...)
	errs = append(errs, validateVariables(spec.Variables, in, path.Child("variables"))...)
	if len(spec.Mutations) == 0 {
		errs = append(errs, field.Required(path.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range spec.Mutations {
		errs = append(errs, validateMutation(&spec.Mutations[i], in, path.Child("mutations").Index(i))...)
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

func validateMutation(m *admissionregistrationv1.Mutation, in scope, path *field.Path) field.ErrorList {
	apply, patch := path.Child("applyConfiguration"), path.Child("jsonPatch")
	var errs field.ErrorList
	switch m.PatchType {
	case "":
		return field.ErrorList{field.Required(path.Child("patchType"), "")}
	case admissionregistrationv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			errs = append(errs, field.Required(patch, "must be specified when patchType is JSONPatch"))
		} else {
			errs = append(errs, validateMutator(m.JSONPatch.Expression, in, patch.Child("expression"), cel.ListType(celtypes.NewObjectType("JSONPatch")))...)
		}
		if m.ApplyConfiguration != nil {
			errs = append(errs, field.Invalid(apply, "{applyConfiguration}", "must not be specified when patchType is JSONPatch"))
		}
	case admissionregistrationv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			errs = append(errs, field.Required(apply, "must be specified when patchType is ApplyConfiguration"))
		} else {
			errs = append(errs, validateMutator(m.ApplyConfiguration.Expression, in, apply.Child("expression"), celtypes.NewObjectType("Object"))...)
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

func validateMutator(text string, in scope, path *field.Path, returns *cel.Type) field.ErrorList {
	text = strings.TrimSpace(text)
	if text == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return in.check(text, askAuthorizer|makePatches, path, returns)
}

func validateMutatingBinding(_ kinds.Request, b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, path)
	return append(errs, validateMutatingOperations(b.Spec.MatchResources, path.Child("matchResources"))...)
}

func validateMutatingBindingUpdate(req kinds.Request, new, _ *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	return validateMutatingBinding(req, new)
}
