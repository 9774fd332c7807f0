// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package authorization describes the kinds of the authorization.k8s.io API group: questions that are answered and never
// stored.
package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	create := []string{"create"}
	version := authorizationv1.SchemeGroupVersion
	return []*kinds.Kind{
		kinds.Define(kinds.Kind{
			Resource: "localsubjectaccessreviews", Singular: "localsubjectaccessreview", Namespaced: true, Verbs: create, NoGeneration: true,
		}, version.WithKind("LocalSubjectAccessReview"),
			func() *authorizationv1.LocalSubjectAccessReview { return &authorizationv1.LocalSubjectAccessReview{} }, nil,
			kinds.Strategy[*authorizationv1.LocalSubjectAccessReview]{Validate: validateLocal}),
		kinds.Define(kinds.Kind{
			Resource: "selfsubjectaccessreviews", Singular: "selfsubjectaccessreview", Verbs: create, NoGeneration: true,
		}, version.WithKind("SelfSubjectAccessReview"),
			func() *authorizationv1.SelfSubjectAccessReview { return &authorizationv1.SelfSubjectAccessReview{} }, nil,
			kinds.Strategy[*authorizationv1.SelfSubjectAccessReview]{Validate: validateSelf}),
		kinds.Define(kinds.Kind{
			Resource: "selfsubjectrulesreviews", Singular: "selfsubjectrulesreview", Verbs: create, NoGeneration: true,
		}, version.WithKind("SelfSubjectRulesReview"),
			func() *authorizationv1.SelfSubjectRulesReview { return &authorizationv1.SelfSubjectRulesReview{} }, nil,
			kinds.Strategy[*authorizationv1.SelfSubjectRulesReview]{}),
		kinds.Define(kinds.Kind{
			Resource: "subjectaccessreviews", Singular: "subjectaccessreview", Verbs: create, NoGeneration: true,
		}, version.WithKind("SubjectAccessReview"),
			func() *authorizationv1.SubjectAccessReview { return &authorizationv1.SubjectAccessReview{} }, nil,
			kinds.Strategy[*authorizationv1.SubjectAccessReview]{Validate: validateSubject}),
	}
}
