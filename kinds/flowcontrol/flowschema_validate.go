// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package flowcontrol

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

const maxPrecedence = 10_000

func validateFlowSchema(_ kinds.Request, f *flowcontrolv1.FlowSchema) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateFlowSchemaSpec(f.Name, &f.Spec, path)
	if fixed, mandatory := mandatoryFlowSchemas()[f.Name]; mandatory && !equal.Semantic(f.Spec, fixed) {
		errs = append(errs, field.Invalid(path, f.Spec, "spec of '"+f.Name+"' must equal the fixed value"))
	}
	return append(errs, validateFlowSchemaConditions(&f.Status)...)
}

func validateFlowSchemaUpdate(req kinds.Request, new, _ *flowcontrolv1.FlowSchema) field.ErrorList {
	return validateFlowSchema(req, new)
}

func validateFlowSchemaStatus(_ kinds.Request, new, _ *flowcontrolv1.FlowSchema) field.ErrorList {
	return validateFlowSchemaConditions(&new.Status)
}

func validateFlowSchemaConditions(status *flowcontrolv1.FlowSchemaStatus) field.ErrorList {
	types := make([]string, len(status.Conditions))
	for i := range status.Conditions {
		types[i] = string(status.Conditions[i].Type)
	}
	return validateConditionTypes(types)
}

func validateConditionTypes(types []string) field.ErrorList {
	var errs field.ErrorList
	for i, t := range types {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		if slices.Contains(types[:i], t) {
			errs = append(errs, field.Duplicate(at, t))
		}
		if t == "" {
			errs = append(errs, field.Required(at, ""))
		}
	}
	return errs
}

func validateFlowSchemaSpec(name string, spec *flowcontrolv1.FlowSchemaSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("matchingPrecedence")
	if spec.MatchingPrecedence <= 0 {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, "must be a positive value"))
	}
	if spec.MatchingPrecedence > maxPrecedence {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, "must not be greater than 10000"))
	}
	if spec.MatchingPrecedence == 1 && name != flowcontrolv1.FlowSchemaNameExempt {
		errs = append(errs, field.Invalid(at, spec.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	methods := []flowcontrolv1.FlowDistinguisherMethodType{
		flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType,
	}
	if m := spec.DistinguisherMethod; m != nil && !slices.Contains(methods, m.Type) {
		errs = append(errs, field.NotSupported(path.Child("distinguisherMethod", "type"), m, methods))
	}
	at = path.Child("priorityLevelConfiguration", "name")
	if level := spec.PriorityLevelConfiguration.Name; level == "" {
		errs = append(errs, field.Required(at, "must reference a priority level"))
	} else {
		errs = append(errs, check.Subdomain(level, at)...)
	}
	for i := range spec.Rules {
		errs = append(errs, validatePolicyRule(&spec.Rules[i], path.Child("rules").Index(i))...)
	}
	return errs
}

func validatePolicyRule(rule *flowcontrolv1.PolicyRulesWithSubjects, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(rule.Subjects) == 0 {
		errs = append(errs, field.Required(path.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range rule.Subjects {
		errs = append(errs, validateSubject(&rule.Subjects[i], path.Child("subjects").Index(i))...)
	}
	if len(rule.ResourceRules) == 0 && len(rule.NonResourceRules) == 0 {
		errs = append(errs, field.Required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i := range rule.ResourceRules {
		errs = append(errs, validateResourceRule(&rule.ResourceRules[i], path.Child("resourceRules").Index(i))...)
	}
	for i := range rule.NonResourceRules {
		errs = append(errs, validateNonResourceRule(&rule.NonResourceRules[i], path.Child("nonResourceRules").Index(i))...)
	}
	return errs
}

// validateSubject requires the one member that the subject's kind names, and no other.
func validateSubject(s *flowcontrolv1.Subject, path *field.Path) field.ErrorList {
	members := []struct {
		kind  flowcontrolv1.SubjectKind
		name  string
		set   bool
		judge func(*field.Path) field.ErrorList
	}{
		{flowcontrolv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil, func(at *field.Path) field.ErrorList {
			return validateServiceAccount(s.ServiceAccount, at)
		}},
		{flowcontrolv1.SubjectKindUser, "user", s.User != nil, func(at *field.Path) field.ErrorList { return requireName(s.User.Name, at) }},
		{flowcontrolv1.SubjectKindGroup, "group", s.Group != nil, func(at *field.Path) field.ErrorList { return requireName(s.Group.Name, at) }},
	}
	known := false
	var errs field.ErrorList
	for _, m := range members {
		at := path.Child(m.name)
		switch {
		case m.kind == s.Kind && !m.set:
			errs = append(errs, field.Required(at, m.name+" is required when subject kind is '"+string(m.kind)+"'"))
		case m.kind == s.Kind:
			errs = append(errs, m.judge(at)...)
		case m.set:
			errs = append(errs, field.Forbidden(at, m.name+" is forbidden when subject kind is not '"+string(m.kind)+"'"))
		}
		known = known || m.kind == s.Kind
	}
	if !known {
		return field.ErrorList{field.NotSupported(path.Child("kind"), s.Kind, []flowcontrolv1.SubjectKind{
			flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser,
		})}
	}
	return errs
}

func requireName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path.Child("name"), "")}
	}
	return nil
}

func validateServiceAccount(s *flowcontrolv1.ServiceAccountSubject, path *field.Path) field.ErrorList {
	errs := requireName(s.Name, path)
	if s.Name != "" && s.Name != flowcontrolv1.NameAll {
		errs = append(errs, check.Messages(path.Child("name"), s.Name, validation.ValidateServiceAccountName(s.Name, false))...)
	}
	if s.Namespace == "" {
		return append(errs, field.Required(path.Child("namespace"), "must specify namespace for service account"))
	}
	return append(errs, check.Messages(path.Child("namespace"), s.Namespace, validation.ValidateNamespaceName(s.Namespace, false))...)
}

func validateVerbs(verbs []string, path *field.Path) field.ErrorList {
	known := []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}
	switch {
	case len(verbs) == 0:
		return field.ErrorList{field.Required(path, "verbs must contain at least one value")}
	case slices.Contains(verbs, "*"):
		return alone(verbs, path, "verbs")
	}
	for _, v := range verbs {
		if !slices.Contains(known, v) {
			return field.ErrorList{field.NotSupported(path, verbs, known)}
		}
	}
	return nil
}

// alone refuses a star that has company.
func alone(list []string, path *field.Path, noun string) field.ErrorList {
	if len(list) > 1 && slices.Contains(list, "*") {
		return field.ErrorList{field.Invalid(path, list, "if '*' is present, must not specify other "+noun)}
	}
	return nil
}

func validateResourceRule(rule *flowcontrolv1.ResourcePolicyRule, path *field.Path) field.ErrorList {
	errs := validateVerbs(rule.Verbs, path.Child("verbs"))
	if len(rule.APIGroups) == 0 {
		errs = append(errs, field.Required(path.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	errs = append(errs, alone(rule.APIGroups, path.Child("apiGroups"), "api groups")...)
	if len(rule.Resources) == 0 {
		errs = append(errs, field.Required(path.Child("resources"), "resource rules must supply at least one resource"))
	}
	errs = append(errs, alone(rule.Resources, path.Child("resources"), "resources")...)
	at := path.Child("namespaces")
	switch {
	case len(rule.Namespaces) == 0 && !rule.ClusterScope:
		errs = append(errs, field.Required(at, "resource rules that are not cluster scoped must supply at least one namespace"))
	case slices.Contains(rule.Namespaces, "*"):
		errs = append(errs, alone(rule.Namespaces, at, "namespaces")...)
	default:
		for i, name := range rule.Namespaces {
			for _, msg := range utilvalidation.IsDNS1123Label(name) {
				errs = append(errs, field.Invalid(at.Index(i), name, "each member of this list must be '*' or a DNS-1123 label; "+msg))
			}
		}
	}
	return errs
}

func validateNonResourceRule(rule *flowcontrolv1.NonResourcePolicyRule, path *field.Path) field.ErrorList {
	errs := validateVerbs(rule.Verbs, path.Child("verbs"))
	at := path.Child("nonResourceURLs")
	switch {
	case len(rule.NonResourceURLs) == 0:
		return append(errs, field.Required(at, "nonResourceURLs must contain at least one value"))
	case slices.Contains(rule.NonResourceURLs, "*"):
		return append(errs, alone(rule.NonResourceURLs, at, "non-resource URLs")...)
	}
	for i, url := range rule.NonResourceURLs {
		if detail := urlFault(url); detail != "" {
			errs = append(errs, field.Invalid(at.Index(i), url, detail))
		}
	}
	return errs
}

// urlFault says what is wrong with a path, or nothing.
func urlFault(url string) string {
	stars := strings.Count(url, "*")
	switch {
	case url == "/":
		return ""
	case url == "":
		return "must not be empty"
	case !strings.HasPrefix(url, "/"):
		return "must start with slash"
	case strings.Contains(url, " "):
		return "must not contain white-space"
	case strings.Contains(url, "//"):
		return "must not contain double slash"
	case stars > 1 || stars == 1 && !strings.HasSuffix(url, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}
