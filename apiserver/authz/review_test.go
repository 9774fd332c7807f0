// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"context"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
)

// janeReads lets jane get pods of n, and nobody else anything.
type janeReads struct{ seen *authz.Attributes }

func (j *janeReads) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	j.seen = a
	if a.User.Name == "jane" && a.Verb == "get" && a.Resource == "pods" && a.Namespace == "n" {
		return authz.Allow, "because", nil
	}
	return authz.NoOpinion, "no rule", nil
}

func (j *janeReads) RulesFor(context.Context, *request.User, string) ([]rbacv1.PolicyRule, error) {
	return []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}, {Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}}, nil
}

func as(t *testing.T, user string, groups ...string) context.Context {
	t.Helper()
	return request.With(t.Context(), &request.State{User: request.User{Name: user, Groups: groups}})
}

func TestReviews(t *testing.T) {
	j := &janeReads{}
	v := &authz.Reviews{Authorizer: j, Rules: j}
	pods := &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: "n"}

	out, err := v.SelfSubjectAccessReview(as(t, "jane"), &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: pods}})
	if err != nil || !out.(*authorizationv1.SelfSubjectAccessReview).Status.Allowed {
		t.Errorf("jane herself: %+v, %v", out, err)
	}
	out, err = v.SubjectAccessReview(as(t, "admin"), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "joe", ResourceAttributes: pods}})
	if st := out.(*authorizationv1.SubjectAccessReview).Status; err != nil || st.Allowed || st.Denied || st.Reason != "no rule" {
		t.Errorf("joe: %+v, %v", st, err)
	}
	local := func(namespace string) *authorizationv1.LocalSubjectAccessReview {
		return &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: authorizationv1.SubjectAccessReviewSpec{User: "jane", ResourceAttributes: pods}}
	}
	out, err = v.LocalSubjectAccessReview(as(t, "admin"), local("n"))
	if err != nil || !out.(*authorizationv1.LocalSubjectAccessReview).Status.Allowed {
		t.Errorf("local: %+v, %v", out, err)
	}
	if _, err := v.LocalSubjectAccessReview(as(t, "admin"), local("m")); err == nil || !strings.Contains(err.Error(), "must match metadata.namespace") {
		t.Errorf("another namespace: %v", err)
	}
	out, err = v.SelfSubjectRulesReview(as(t, "root", request.GroupMasters), &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "n"}})
	if st := out.(*authorizationv1.SelfSubjectRulesReview).Status; err != nil || len(st.ResourceRules) != 1 || len(st.NonResourceRules) != 1 { // the group itself is no rule
		t.Errorf("rules: %+v, %v", st, err)
	}
}

func TestReviewsAreChecked(t *testing.T) {
	j := &janeReads{}
	v := &authz.Reviews{Authorizer: j, Rules: j}
	pods := &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}
	for name, c := range map[string]struct {
		spec authorizationv1.SubjectAccessReviewSpec
		want string
	}{
		"nobody":        {authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: pods}, "at least one of user or group must be specified"},
		"nothing":       {authorizationv1.SubjectAccessReviewSpec{User: "x"}, "exactly one of nonResourceAttributes or resourceAttributes must be specified"},
		"both":          {authorizationv1.SubjectAccessReviewSpec{User: "x", ResourceAttributes: pods, NonResourceAttributes: &authorizationv1.NonResourceAttributes{}}, "cannot be specified in combination with resourceAttributes"},
		"two selectors": {authorizationv1.SubjectAccessReviewSpec{User: "x", ResourceAttributes: &authorizationv1.ResourceAttributes{FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: "a=b", Requirements: []metav1.FieldSelectorRequirement{{}}}}}, "may not specified at the same time as requirements"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := v.SubjectAccessReview(t.Context(), &authorizationv1.SubjectAccessReview{Spec: c.spec})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want %q", err, c.want)
			}
		})
	}
}

func TestSelectorsReachTheAuthorizer(t *testing.T) {
	j := &janeReads{}
	v := &authz.Reviews{Authorizer: j, Rules: j}
	out, err := v.SubjectAccessReview(t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "jane", ResourceAttributes: &authorizationv1.ResourceAttributes{
		Verb: "list", Resource: "pods",
		FieldSelector: &authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
			{Key: "spec.nodeName", Operator: metav1.FieldSelectorOpIn, Values: []string{"n1"}}, {Key: "x", Operator: metav1.FieldSelectorOpIn, Values: []string{"a", "b"}},
		}},
		LabelSelector: &authorizationv1.LabelSelectorAttributes{RawSelector: "a in (b,c)"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(j.seen.FieldSelector) != 1 || j.seen.FieldSelector[0].Value != "n1" || len(j.seen.LabelSelector) != 1 {
		t.Errorf("selectors = %v, %v", j.seen.FieldSelector, j.seen.LabelSelector)
	}
	if st := out.(*authorizationv1.SubjectAccessReview).Status; !strings.Contains(st.EvaluationError, "fieldSelector partially ignored due to parse error") {
		t.Errorf("evaluation error = %q", st.EvaluationError)
	}
}

func TestForbiddenText(t *testing.T) {
	a := &authz.Attributes{User: request.User{Name: "<jane>"}, ResourceRequest: true, Verb: "list", APIGroup: "apps", Resource: "deployments", Subresource: "scale", Namespace: "n", Name: "web"}
	want := `deployments.apps "web" is forbidden: User "&lt;jane&gt;" cannot list resource "deployments/scale" in API group "apps" in the namespace "n": why`
	if got := authz.Forbidden(a, "why").Error(); got != want {
		t.Errorf("Forbidden = %s\nwant        %s", got, want)
	}
	path := &authz.Attributes{User: request.User{Name: "jane"}, Verb: "get", Path: "/metrics"}
	if got, want := authz.Forbidden(path, "").Error(), `forbidden: User "jane" cannot get path "/metrics"`; got != want {
		t.Errorf("Forbidden = %s, want %s", got, want)
	}
}
