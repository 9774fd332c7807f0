// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package rbac is the arithmetic of RBAC rules: what a rule allows, to whom a binding applies, and whether one set of rules
// covers another. It reads no state.
package rbac

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

const saPrefix = "system:serviceaccount:"

// Request is what rules are asked about.
type Request struct {
	// IsResource tells whether the resource fields or Path hold.
	IsResource                                        bool
	Verb, APIGroup, Resource, Subresource, Name, Path string
}

// Allows reports whether one of the rules allows the request.
func Allows(rules []rbacv1.PolicyRule, req *Request) bool {
	for i := range rules {
		if RuleAllows(&rules[i], req) {
			return true
		}
	}
	return false
}

// RuleAllows reports whether the rule allows the request.
func RuleAllows(rule *rbacv1.PolicyRule, req *Request) bool {
	if !hasOrAll(rule.Verbs, req.Verb) {
		return false
	}
	if !req.IsResource {
		return slices.ContainsFunc(rule.NonResourceURLs, func(u string) bool { return pathMatches(u, req.Path) })
	}
	return hasOrAll(rule.APIGroups, req.APIGroup) && resourceMatches(rule.Resources, req.Resource, req.Subresource) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, req.Name))
}

func hasOrAll(list []string, item string) bool {
	for _, s := range list {
		if s == "*" || s == item {
			return true
		}
	}
	return false
}

func pathMatches(rule, path string) bool {
	if rule == "*" || rule == path {
		return true
	}
	return strings.HasSuffix(rule, "*") && strings.HasPrefix(path, strings.TrimRight(rule, "*"))
}

// resourceMatches knows "*", "pods", "pods/log" and "*/log"; "pods" does not match pods/log.
func resourceMatches(list []string, resource, subresource string) bool {
	for _, r := range list {
		if r == "*" {
			return true
		}
		if subresource == "" {
			if r == resource {
				return true
			}
			continue
		}
		base, sub, ok := strings.Cut(r, "/")
		if ok && sub == subresource && (base == resource || base == "*") {
			return true
		}
	}
	return false
}

// AppliesTo returns the first of the subjects that means the user. namespace is the binding's: service accounts without
// a namespace live there; it is empty for cluster role bindings.
func AppliesTo(subjects []rbacv1.Subject, user string, groups []string, namespace string) (*rbacv1.Subject, bool) {
	for i := range subjects {
		s := &subjects[i]
		switch s.Kind {
		case rbacv1.UserKind:
			if s.Name == user {
				return s, true
			}
		case rbacv1.GroupKind:
			if slices.Contains(groups, s.Name) {
				return s, true
			}
		case rbacv1.ServiceAccountKind:
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			if ns != "" && isServiceAccount(user, ns, s.Name) {
				return s, true
			}
		}
	}
	return nil, false
}

func isServiceAccount(user, namespace, name string) bool {
	rest, ok := strings.CutPrefix(user, saPrefix)
	return ok && len(rest) == len(namespace)+1+len(name) && strings.HasPrefix(rest, namespace) && rest[len(namespace)] == ':' && strings.HasSuffix(rest, name)
}

// SubjectKey returns the user name or "group:..." key under which a subject can be indexed, or false for kinds that mean
// nobody. namespace is as in AppliesTo.
func SubjectKey(s *rbacv1.Subject, namespace string) (key string, group, ok bool) {
	switch s.Kind {
	case rbacv1.UserKind:
		return s.Name, false, true
	case rbacv1.GroupKind:
		return s.Name, true, true
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		if namespace != "" {
			return saPrefix + namespace + ":" + s.Name, false, true
		}
	}
	return "", false, false
}

// Missing returns the rules of want that have does not cover, short and sorted, as texts for the user; nil when all are covered.
func Missing(have, want []rbacv1.PolicyRule) []string {
	covered, missing := validation.Covers(have, want)
	if covered {
		return nil
	}
	var out []string
	for _, rule := range compact(missing) {
		out = append(out, Describe(rule))
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// compact joins rules that differ only by verb; the cover check takes rules apart into single verbs.
func compact(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	type key struct{ group, resource, name string }
	at := map[key]int{}
	var out []rbacv1.PolicyRule
	for _, r := range rules {
		if len(r.APIGroups) != 1 || len(r.Resources) != 1 || len(r.ResourceNames) > 1 || len(r.NonResourceURLs) > 0 {
			out = append(out, r)
			continue
		}
		k := key{group: r.APIGroups[0], resource: r.Resources[0]}
		if len(r.ResourceNames) == 1 {
			k.name = r.ResourceNames[0]
		}
		if i, ok := at[k]; ok {
			out[i].Verbs = append(out[i].Verbs, r.Verbs...)
			continue
		}
		at[k] = len(out)
		out = append(out, *r.DeepCopy())
	}
	return out
}

// Describe renders a rule in one line.
func Describe(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name   string
		values []string
	}{
		{"APIGroups", r.APIGroups},
		{"Resources", r.Resources},
		{"NonResourceURLs", r.NonResourceURLs},
		{"ResourceNames", r.ResourceNames},
		{"Verbs", r.Verbs},
	} {
		if len(p.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
