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
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// staticSuffix ends names that are kept for configurations that come from files.
const staticSuffix = ".static.k8s.io"

func warnSuffix[T kinds.Object](_ kinds.Request, new, _ T) []string {
	name := new.GetName()
	if !strings.HasSuffix(name, staticSuffix) {
		return nil
	}
	return []string{fmt.Sprintf(
		"metadata.name: names ending with %q are reserved for static manifest-based configurations and cannot be managed via the API", staticSuffix,
	)}
}

// optionalOneOf judges an enumeration that need not be set.
func optionalOneOf[T ~string](value *T, path *field.Path, allowed ...T) field.ErrorList {
	if value == nil || slices.Contains(allowed, *value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, *value, allowed)}
}

func validateRuleWithOperations(rule *admissionregistrationv1.RuleWithOperations, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("operations")
	if len(rule.Operations) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if len(rule.Operations) > 1 && slices.Contains(rule.Operations, admissionregistrationv1.OperationAll) {
		errs = append(errs, field.Invalid(at, rule.Operations, "if '*' is present, must not specify other operations"))
	}
	known := []admissionregistrationv1.OperationType{
		admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create,
		admissionregistrationv1.Delete, admissionregistrationv1.Update,
	}
	for i, operation := range rule.Operations {
		if !slices.Contains(known, operation) {
			errs = append(errs, field.NotSupported(at.Index(i), operation, known))
		}
	}
	return append(errs, validateRule(&rule.Rule, path)...)
}

func validateRule(rule *admissionregistrationv1.Rule, path *field.Path) field.ErrorList {
	errs := requireList(rule.APIGroups, path.Child("apiGroups"), "API groups")
	errs = append(errs, requireList(rule.APIVersions, path.Child("apiVersions"), "API versions")...)
	for i, v := range rule.APIVersions {
		if v == "" {
			errs = append(errs, field.Required(path.Child("apiVersions").Index(i), ""))
		}
	}
	errs = append(errs, validateResources(rule.Resources, path.Child("resources"))...)
	return append(errs, optionalOneOf(rule.Scope, path.Child("scope"),
		admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)...)
}

// requireList judges a list that must not be empty, and in which a star must be alone.
func requireList(list []string, path *field.Path, noun string) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(list) > 1 && slices.Contains(list, "*") {
		return field.ErrorList{field.Invalid(path, list, "if '*' is present, must not specify other "+noun)}
	}
	return nil
}

// validateResources judges a list of "resource" and "resource/subresource", either of which may be a star: no entry may be
// covered by an earlier one.
func validateResources(resources []string, path *field.Path) field.ErrorList {
	if len(resources) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	wholeResource, everywhere := map[string]bool{}, map[string]bool{}
	plain := false // whether the last entry without a subresource is no star
	for i, entry := range resources {
		if entry == "" {
			errs = append(errs, field.Required(path.Index(i), ""))
			continue
		}
		resource, sub, found := strings.Cut(entry, "/")
		if !found {
			plain = entry != "*"
			continue
		}
		if wholeResource[resource] {
			errs = append(errs, field.Invalid(path.Index(i), entry, fmt.Sprintf("if '%s/*' is present, must not specify %s", resource, entry)))
		}
		if everywhere[sub] {
			errs = append(errs, field.Invalid(path.Index(i), entry, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, entry)))
		}
		if sub == "*" {
			wholeResource[resource] = true
		}
		if resource == "*" {
			everywhere[sub] = true
		}
	}
	if len(resources) > 1 && slices.Contains(resources, "*/*") {
		errs = append(errs, field.Invalid(path, resources, "if '*/*' is present, must not specify other resources"))
	}
	if plain && slices.Contains(resources, "*") {
		errs = append(errs, field.Invalid(path, resources, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

func validateNamedRules(rules []admissionregistrationv1.NamedRuleWithOperations, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range rules {
		at := path.Index(i)
		for k, name := range rules[i].ResourceNames {
			errs = append(errs, check.Messages(at.Child("resourceNames").Index(k), name, content.IsPathSegmentName(name))...)
			if slices.Contains(rules[i].ResourceNames[:k], name) {
				errs = append(errs, field.Duplicate(at.Child("resourceNames").Index(k), name))
			}
		}
		errs = append(errs, validateRuleWithOperations(&rules[i].RuleWithOperations, at)...)
	}
	return errs
}

func validateMatchResources(m *admissionregistrationv1.MatchResources, path *field.Path) field.ErrorList {
	if m == nil {
		return nil
	}
	var errs field.ErrorList
	if m.MatchPolicy == nil {
		errs = append(errs, field.Required(path.Child("matchPolicy"), ""))
	}
	errs = append(errs, optionalOneOf(m.MatchPolicy, path.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	if m.NamespaceSelector == nil {
		errs = append(errs, field.Required(path.Child("namespaceSelector"), ""))
	}
	errs = append(errs, check.Selector(m.NamespaceSelector, path.Child("namespaceSelector"))...)
	if m.ObjectSelector == nil {
		errs = append(errs, field.Required(path.Child("objectSelector"), ""))
	}
	errs = append(errs, check.Selector(m.ObjectSelector, path.Child("objectSelector"))...)
	errs = append(errs, validateNamedRules(m.ResourceRules, path.Child("resourceRules"))...)
	return append(errs, validateNamedRules(m.ExcludeResourceRules, path.Child("excludeResourceRules"))...)
}

// maxMatchConditions bounds the conditions of one webhook or policy.
const maxMatchConditions = 64

func validateMatchConditions(conditions []admissionregistrationv1.MatchCondition, compile func() scope, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(conditions) > maxMatchConditions {
		errs = append(errs, field.TooMany(path, len(conditions), maxMatchConditions))
	}
	seen := map[string]bool{}
	for i, c := range conditions {
		at := path.Index(i)
		if text := strings.TrimSpace(c.Expression); text == "" {
			errs = append(errs, field.Required(at.Child("expression"), ""))
		} else {
			errs = append(errs, compile().check(text, askAuthorizer, at.Child("expression"), cel.BoolType)...)
		}
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, check.QualifiedName(c.Name, at.Child("name"))...)
		if seen[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		seen[c.Name] = true
	}
	return errs
}
