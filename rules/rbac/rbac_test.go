// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"kogge.dev/kogge/rules/rbac"
)

func TestRuleAllows(t *testing.T) {
	pods := rbacv1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods", "*/scale", "deployments/status"}}
	named := rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"apps"}, Resources: []string{"*"}, ResourceNames: []string{"web"}}
	paths := rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/api/*"}}
	res := func(verb, group, resource, sub, name string) *rbac.Request {
		return &rbac.Request{IsResource: true, Verb: verb, APIGroup: group, Resource: resource, Subresource: sub, Name: name}
	}
	for _, c := range []struct {
		name string
		rule rbacv1.PolicyRule
		req  *rbac.Request
		want bool
	}{
		{"verb and resource", pods, res("get", "", "pods", "", "a"), true},
		{"another verb", pods, res("create", "", "pods", "", ""), false},
		{"another group", pods, res("get", "apps", "pods", "", ""), false},
		{"a resource does not include its subresources", pods, res("get", "", "pods", "log", ""), false},
		{"a subresource of all", pods, res("get", "", "anything", "scale", ""), true},
		{"one subresource", pods, res("get", "", "deployments", "status", ""), true},
		{"a subresource does not include its parent", pods, res("get", "", "deployments", "", ""), false},
		{"a name that is listed", named, res("delete", "apps", "deployments", "scale", "web"), true},
		{"a name that is not", named, res("delete", "apps", "deployments", "", "db"), false},
		{"no name where names are listed", named, res("list", "apps", "deployments", "", ""), false},
		{"a path", paths, &rbac.Request{Verb: "get", Path: "/healthz"}, true},
		{"below a path without star", paths, &rbac.Request{Verb: "get", Path: "/healthz/etcd"}, false},
		{"below a path with star", paths, &rbac.Request{Verb: "get", Path: "/api/v1"}, true},
		{"paths are no resources", paths, res("get", "", "", "", ""), false},
		{"resources are no paths", named, &rbac.Request{Verb: "get", Path: "/web"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := rbac.RuleAllows(&c.rule, c.req); got != c.want {
				t.Errorf("RuleAllows = %v, want %v", got, c.want)
			}
		})
	}
}

func TestAppliesTo(t *testing.T) {
	subjects := []rbacv1.Subject{
		{Kind: "User", Name: "jane"},
		{Kind: "Group", Name: "devs"},
		{Kind: "ServiceAccount", Name: "bot"},
		{Kind: "ServiceAccount", Namespace: "ci", Name: "builder"},
		{Kind: "Robot", Name: "r2"},
	}
	for _, c := range []struct {
		user, namespace string
		groups          []string
		want            bool
	}{
		{user: "jane", want: true},
		{user: "joe", groups: []string{"devs"}, want: true},
		{user: "devs", want: false},
		{user: "system:serviceaccount:ns:bot", namespace: "ns", want: true},
		{user: "system:serviceaccount:other:bot", namespace: "ns", want: false},
		{user: "system:serviceaccount:ns:bot", want: false},
		{user: "system:serviceaccount:ci:builder", namespace: "ns", want: true},
		{user: "system:serviceaccount:ci:builder:x", want: false},
		{user: "r2", want: false},
	} {
		if _, got := rbac.AppliesTo(subjects, c.user, c.groups, c.namespace); got != c.want {
			t.Errorf("AppliesTo(%q, %v, %q) = %v, want %v", c.user, c.groups, c.namespace, got, c.want)
		}
	}
}

func TestMissingIsShortAndSorted(t *testing.T) {
	have := []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	want := []rbacv1.PolicyRule{
		{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods", "secrets"}},
		{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}},
	}
	got := rbac.Missing(have, want)
	expect := []string{
		`{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}`,
		`{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "watch"]}`,
		`{NonResourceURLs:["/metrics"], Verbs:["get"]}`,
	}
	if diff := cmp.Diff(expect, got); diff != "" {
		t.Errorf("Missing (-want +got):\n%s", diff)
	}
	if got := rbac.Missing([]rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, {Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}, want); got != nil {
		t.Errorf("Missing for somebody who may do all = %v, want nothing", got)
	}
}
