// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/request"
)

// Chain asks authorizers in order; the first that allows or denies decides. When none has an opinion the answer is
// NoOpinion, which the request path treats as a refusal, with all reasons.
type Chain []Authorizer

// Authorize implements Authorizer.
func (c Chain) Authorize(ctx context.Context, a *Attributes) (Decision, string, error) {
	var reasons []string
	var errs []error
	for _, link := range c {
		decision, reason, err := link.Authorize(ctx, a)
		if err != nil {
			errs = append(errs, err)
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		if decision != NoOpinion {
			return decision, reason, err
		}
	}
	return NoOpinion, strings.Join(reasons, "\n"), errors.Join(errs...)
}

// Masters allows everything to members of system:masters, before anybody else is asked, as upstream does. Members are whom any
// authenticator calls so: besides certificates of the client CA and this process's own clients these are token files, issuers of
// OpenID Connect and token webhooks; and who may impersonate the group joins it. What they say is not narrowed here.
type Masters struct{}

// Authorize implements Authorizer.
func (Masters) Authorize(_ context.Context, a *Attributes) (Decision, string, error) {
	if slices.Contains(a.User.Groups, request.GroupMasters) {
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

var sanitizer = strings.NewReplacer(`&`, "&amp;", `<`, "&lt;", `>`, "&gt;")

// Forbidden is the error for the user who is refused.
func Forbidden(a *Attributes, reason string) *apierrors.StatusError {
	text := sanitizer.Replace(refusal(a))
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}, a.Name, errors.New(text))
}

func refusal(a *Attributes) string {
	who := "User " + strconv.Quote(a.User.Name) + " cannot " + a.Verb
	if !a.ResourceRequest {
		return who + " path " + strconv.Quote(a.Path)
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	what := who + " resource " + strconv.Quote(resource) + " in API group " + strconv.Quote(a.APIGroup)
	if a.Namespace != "" {
		return what + " in the namespace " + strconv.Quote(a.Namespace)
	}
	return what + " at the cluster scope"
}

// Require returns nil if the authorizer allows, and the refusal otherwise.
func Require(ctx context.Context, authorizer Authorizer, a *Attributes) error {
	decision, reason, err := authorizer.Authorize(ctx, a)
	switch {
	case decision == Allow:
		return nil
	case err != nil && decision == NoOpinion && reason == "":
		return Forbidden(a, err.Error())
	}
	return Forbidden(a, reason)
}
