// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of audit annotations.
const (
	maxAuditAnnotations = 20
	maxValueExpression  = 5 * 1024 // bytes
	noAuditNorValidate  = "validations or auditAnnotations must contain at least one item"
)

func (e *expressions) validateValidatingPolicy(_ kinds.Request, p *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	return e.validateValidatingSpec(p, nil, false)
}

func (e *expressions) validateValidatingPolicyUpdate(_ kinds.Request, new, old *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	same := equal.Semantic(new.Spec.ParamKind, old.Spec.ParamKind) &&
		equal.Semantic(new.Spec.MatchConditions, old.Spec.MatchConditions)
	stored := map[string]bool{}
	for _, c := range old.Spec.MatchConditions {
		stored[c.Expression] = true
	}
	for _, v := range old.Spec.Variables {
		stored[v.Expression] = true
	}
	for _, v := range old.Spec.Validations {
		stored[v.Expression], stored[v.MessageExpression] = true, true
	}
	for _, a := range old.Spec.AuditAnnotations {
		stored[a.ValueExpression] = true
	}
	return e.validateValidatingSpec(new, stored, same)
}

// validateCommon judges what both kinds of policies share, but for match conditions that did not change.
func validateCommon(failure *admissionregistrationv1.FailurePolicyType, param *admissionregistrationv1.ParamKind,
	match *admissionregistrationv1.MatchResources, path *field.Path,
) field.ErrorList {
	var errs field.ErrorList
	if failure == nil {
		errs = append(errs, field.Required(path.Child("failurePolicy"), ""))
	}
	errs = append(errs, optionalOneOf(failure, path.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	if param != nil {
		errs = append(errs, validateParamKind(param, path.Child("paramKind"))...)
	}
	at := path.Child("matchConstraints")
	if match == nil {
		return append(errs, field.Required(at, ""))
	}
	errs = append(errs, validateMatchResources(match, at)...)
	if len(match.ResourceRules) == 0 {
		errs = append(errs, field.Required(at.Child("resourceRules"), ""))
	}
	return errs
}

func (e *expressions) validateValidatingSpec(p *admissionregistrationv1.ValidatingAdmissionPolicy, stored map[string]bool, sameConditions bool) field.ErrorList {
	spec, path := &p.Spec, field.NewPath("spec")
	errs := validateCommon(spec.FailurePolicy, spec.ParamKind, spec.MatchConstraints, path)
	if !sameConditions {
		plain := func() scope { return e.plain(spec.ParamKind != nil, stored) }
		errs = append(errs, validateMatchConditions(spec.MatchConditions, plain, path.Child("matchConditions"))...)
	}
	in, found := e.plain(spec.ParamKind != nil, stored), field.ErrorList(nil)
	if len(spec.Variables) > 0 {
		in, found = e.withVariables(spec.ParamKind != nil, stored, path)
	}
	errs = append(errs, found...)
	errs = append(errs, validateVariables(spec.Variables, in, path.Child("variables"))...)
	if len(spec.Validations) == 0 && len(spec.AuditAnnotations) == 0 {
		return append(errs, field.Required(path.Child("validations"), noAuditNorValidate), field.Required(path.Child("auditAnnotations"), noAuditNorValidate))
	}
	for i := range spec.Validations {
		errs = append(errs, validateValidation(&spec.Validations[i], in, path.Child("validations").Index(i))...)
	}
	return append(errs, validateAudit(p.Name, spec.AuditAnnotations, in, path.Child("auditAnnotations"))...)
}

func validateParamKind(k *admissionregistrationv1.ParamKind, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("apiVersion")
	group, version, found := strings.Cut(k.APIVersion, "/")
	if !found {
		group, version = "", k.APIVersion
	}
	switch {
	case k.APIVersion == "":
		errs = append(errs, field.Required(at, ""))
	case strings.Contains(version, "/"):
		errs = append(errs, field.Invalid(at, k.APIVersion, "unexpected GroupVersion string: "+k.APIVersion))
	default:
		if msgs := utilvalidation.IsDNS1123Subdomain(group); group != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, group, strings.Join(msgs, ",")))
		}
		if version == "" {
			errs = append(errs, field.Invalid(at, k.APIVersion, "version must be specified"))
		} else if msgs := utilvalidation.IsDNS1035Label(version); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, version, strings.Join(msgs, ",")))
		}
	}
	if k.Kind == "" {
		errs = append(errs, field.Required(path.Child("kind"), ""))
	} else if msgs := utilvalidation.IsDNS1035Label(strings.ToLower(k.Kind)); len(msgs) > 0 {
		errs = append(errs, field.Invalid(path.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
	}
	return errs
}

func validateVariables(variables []admissionregistrationv1.Variable, in scope, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, v := range variables {
		at := path.Index(i)
		switch {
		case strings.TrimSpace(v.Name) == "":
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		case !identifier(v.Name):
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
		} else {
			errs = append(errs, in.define(v.Name, v.Expression, at.Child("expression"))...)
		}
	}
	return errs
}

// identifier reports whether CEL can name a variable so.
func identifier(name string) bool {
	reserved := []string{
		"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
		"loop", "package", "namespace", "return", "var", "void", "while",
	}
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return !slices.Contains(reserved, name)
}

func validateValidation(v *admissionregistrationv1.Validation, in scope, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.TrimSpace(v.Expression) == "" {
		errs = append(errs, field.Required(path.Child("expression"), "expression is not specified"))
	} else {
		errs = append(errs, in.check(v.Expression, askAuthorizer, path.Child("expression"), cel.BoolType)...)
	}
	switch at := path.Child("messageExpression"); {
	case v.MessageExpression == "":
	case strings.TrimSpace(v.MessageExpression) == "":
		errs = append(errs, field.Invalid(at, v.MessageExpression, "must be non-empty if specified"))
	default:
		// A message must not tell users what they may do: it has no authorizer.
		errs = append(errs, in.check(v.MessageExpression, 0, at, cel.StringType)...)
	}
	message := strings.TrimSpace(v.Message)
	switch {
	case v.Message != "" && message == "":
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, "must be non-empty if specified"))
	case strings.ContainsAny(message, "\n\r"):
		errs = append(errs, field.Invalid(path.Child("message"), v.Message, "must not contain line breaks"))
	}
	return append(errs, optionalOneOf(v.Reason, path.Child("reason"),
		metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge)...)
}

func validateAudit(policy string, annotations []admissionregistrationv1.AuditAnnotation, in scope, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(annotations) > maxAuditAnnotations {
		errs = append(errs, field.Invalid(path, annotations, fmt.Sprintf("must not have more than %d auditAnnotations", maxAuditAnnotations)))
	}
	seen := map[string]bool{}
	for i, a := range annotations {
		at := path.Index(i)
		if policy == "" {
			errs = append(errs, field.Invalid(at.Child("key"), a.Key, "requires metadata.name be non-empty"))
		} else {
			errs = append(errs, check.QualifiedName(policy+"/"+a.Key, at.Child("key"))...)
		}
		switch text := strings.TrimSpace(a.ValueExpression); {
		case text == "":
			errs = append(errs, field.Required(at.Child("valueExpression"), "valueExpression is not specified"))
		case len(text) > maxValueExpression:
			errs = append(errs, field.Required(at.Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", maxValueExpression)))
		default:
			errs = append(errs, in.check(text, askAuthorizer, at.Child("valueExpression"), cel.StringType, cel.NullType)...)
		}
		if seen[a.Key] {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		seen[a.Key] = true
	}
	return errs
}

func validateValidatingPolicyStatus(_ kinds.Request, new, _ *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	if new.Status.TypeChecking != nil {
		for i, w := range new.Status.TypeChecking.ExpressionWarnings {
			at := path.Child("typeChecking", "expressionWarnings").Index(i)
			if w.Warning == "" {
				errs = append(errs, field.Required(at.Child("warning"), ""))
			}
			if ref := strings.TrimSpace(w.FieldRef); ref == "" {
				errs = append(errs, field.Required(at.Child("fieldRef"), ""))
			} else if err := jsonpath.New("spec").Parse("{" + ref + "}"); err != nil {
				errs = append(errs, field.Invalid(at.Child("fieldRef"), ref, fmt.Sprintf("invalid JSONPath: %v", err)))
			}
		}
	}
	return append(errs, metav1validation.ValidateConditions(new.Status.Conditions, path.Child("conditions"))...)
}

func validateValidatingBinding(_ kinds.Request, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, path)
	at, actions := path.Child("validationActions"), b.Spec.ValidationActions
	known := []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn}
	for i, a := range actions {
		if !slices.Contains(known, a) {
			errs = append(errs, field.NotSupported(at.Index(i), a, known))
		}
		if slices.Contains(actions[:i], a) {
			errs = append(errs, field.Duplicate(at.Index(i), a))
		}
	}
	if slices.Contains(actions, admissionregistrationv1.Deny) && slices.Contains(actions, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(at, actions, "must not contain both Deny and Warn "+
			"(repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	if len(actions) == 0 {
		errs = append(errs, field.Required(at, "at least one validation action is required"))
	}
	return errs
}

func validateValidatingBindingUpdate(req kinds.Request, new, _ *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	return validateValidatingBinding(req, new)
}

func validateBinding(policy string, ref *admissionregistrationv1.ParamRef, match *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if policy == "" {
		errs = append(errs, field.Required(path.Child("policyName"), ""))
	} else {
		errs = append(errs, check.Subdomain(policy, path.Child("policyName"))...)
	}
	errs = append(errs, validateParamRef(ref, path.Child("paramRef"))...)
	return append(errs, validateMatchResources(match, path.Child("matchResources"))...)
}

func validateParamRef(ref *admissionregistrationv1.ParamRef, path *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	const exclusive = "name and selector are mutually exclusive"
	var errs field.ErrorList
	if ref.Name != "" {
		errs = append(errs, check.Messages(path.Child("name"), ref.Name, content.IsPathSegmentName(ref.Name))...)
		if ref.Selector != nil {
			errs = append(errs, field.Forbidden(path.Child("name"), exclusive))
		}
	}
	if ref.Selector != nil {
		errs = append(errs, check.Selector(ref.Selector, path.Child("selector"))...)
		if ref.Name != "" {
			errs = append(errs, field.Forbidden(path.Child("selector"), exclusive))
		}
	}
	if ref.Name == "" && ref.Selector == nil {
		errs = append(errs, field.Required(path, "one of name or selector must be specified"))
	}
	at := path.Child("parameterNotFoundAction")
	if a := ref.ParameterNotFoundAction; a == nil || *a == "" {
		return append(errs, field.Required(at, ""))
	}
	return append(errs, optionalOneOf(ref.ParameterNotFoundAction, at, admissionregistrationv1.DenyAction, admissionregistrationv1.AllowAction)...)
}
