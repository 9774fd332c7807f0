// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"kogge.dev/kogge/apiserver/request"
)

// classify returns the first schema, in the order of precedence, that matches a request. The list ends with the catch-all schema, which
// matches everybody who has passed authentication, anonymous users included; nil is for those who have not.
func classify(schemas []*flowcontrolv1.FlowSchema, s *request.State) *flowcontrolv1.FlowSchema {
	for _, schema := range schemas {
		if slices.ContainsFunc(schema.Spec.Rules, func(rule flowcontrolv1.PolicyRulesWithSubjects) bool { return matches(&rule, s) }) {
			return schema
		}
	}
	return nil
}

// distinguisher is what tells the flows of a schema apart.
func distinguisher(schema *flowcontrolv1.FlowSchema, s *request.State) string {
	method := schema.Spec.DistinguisherMethod
	switch {
	case method == nil:
		return ""
	case method.Type == flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
		return s.Info.Namespace
	default:
		return s.User.Name
	}
}

func matches(rule *flowcontrolv1.PolicyRulesWithSubjects, s *request.State) bool {
	if !slices.ContainsFunc(rule.Subjects, func(subject flowcontrolv1.Subject) bool { return is(&subject, &s.User) }) {
		return false
	}
	if s.Info.IsResource {
		return slices.ContainsFunc(rule.ResourceRules, func(r flowcontrolv1.ResourcePolicyRule) bool { return matchesResource(&r, &s.Info) })
	}
	return slices.ContainsFunc(rule.NonResourceRules, func(r flowcontrolv1.NonResourcePolicyRule) bool {
		return contains(r.Verbs, s.Info.Verb) && slices.ContainsFunc(r.NonResourceURLs, func(url string) bool { return matchesPath(url, s.Info.Path) })
	})
}

func is(subject *flowcontrolv1.Subject, user *request.User) bool {
	switch {
	case subject.User != nil:
		return subject.User.Name == "*" || subject.User.Name == user.Name
	case subject.Group != nil:
		return subject.Group.Name == "*" || slices.Contains(user.Groups, subject.Group.Name)
	case subject.ServiceAccount != nil:
		rest, ok := strings.CutPrefix(user.Name, request.ServiceAccountPrefix)
		if !ok {
			return false
		}
		namespace, name, _ := strings.Cut(rest, ":")
		return namespace == subject.ServiceAccount.Namespace && (subject.ServiceAccount.Name == "*" || name == subject.ServiceAccount.Name)
	default:
		return false
	}
}

func matchesResource(r *flowcontrolv1.ResourcePolicyRule, i *request.Info) bool {
	resource := i.Resource
	if i.Subresource != "" {
		resource += "/" + i.Subresource
	}
	if !contains(r.Verbs, i.Verb) || !contains(r.APIGroups, i.Group) || !contains(r.Resources, resource) {
		return false
	}
	if i.Namespace == "" {
		return r.ClusterScope
	}
	return contains(r.Namespaces, i.Namespace)
}

// matchesPath: a pattern ends with "*" only as a whole last element.
func matchesPath(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}

func contains(set []string, value string) bool {
	return slices.Contains(set, "*") || slices.Contains(set, value)
}
