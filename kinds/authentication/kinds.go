// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package authentication describes the kinds of the authentication.k8s.io API group: questions that are answered and never
// stored.
package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

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

// Bounds of a token request, in seconds.
const (
	defaultTokenSeconds = 60 * 60
	minTokenSeconds     = 10 * 60
	maxTokenSeconds     = 1 << 32
)

// DefaultTokenRequest fills what a token request leaves open. It belongs to the token subresource of service accounts.
func DefaultTokenRequest(r *authenticationv1.TokenRequest) {
	if r.Spec.ExpirationSeconds == nil {
		seconds := int64(defaultTokenSeconds)
		r.Spec.ExpirationSeconds = &seconds
	}
}

// ValidateTokenRequest judges a token request after its defaulting.
func ValidateTokenRequest(r *authenticationv1.TokenRequest) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "expirationSeconds")
	if *r.Spec.ExpirationSeconds < minTokenSeconds {
		errs = append(errs, field.Invalid(path, *r.Spec.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
	}
	if *r.Spec.ExpirationSeconds > maxTokenSeconds {
		errs = append(errs, field.Invalid(path, *r.Spec.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}
