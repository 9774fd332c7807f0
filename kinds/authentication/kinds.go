// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package authentication describes the kinds of the authentication.k8s.io API group: questions that are answered and never
// stored.
package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	create := []string{"create"}
	version := authenticationv1.SchemeGroupVersion
	return []*kinds.Kind{
		kinds.Define(kinds.Kind{Resource: "selfsubjectreviews", Singular: "selfsubjectreview", Verbs: create, NoGeneration: true},
			version.WithKind("SelfSubjectReview"),
			func() *authenticationv1.SelfSubjectReview { return &authenticationv1.SelfSubjectReview{} }, nil,
			kinds.Strategy[*authenticationv1.SelfSubjectReview]{}),
		kinds.Define(kinds.Kind{Resource: "tokenreviews", Singular: "tokenreview", Verbs: create, NoGeneration: true},
			version.WithKind("TokenReview"),
			func() *authenticationv1.TokenReview { return &authenticationv1.TokenReview{} }, nil,
			kinds.Strategy[*authenticationv1.TokenReview]{}),
	}
}
