// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package authz decides whether a user may do what a request asks. The chain is Node, then RBAC, or
// what a file says (configured).
package authz

import (
	"context"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/apiserver/request"
)

// Decision of one authorizer. The zero value is NoOpinion.
type Decision int

// Decisions.
const (
	NoOpinion Decision = iota
	Allow
	Deny
)

// Attributes are what is asked.
type Attributes struct {
	User request.User
	// ResourceRequest tells whether the resource fields or Path hold.
	ResourceRequest                                                    bool
	Verb, APIGroup, APIVersion, Resource, Subresource, Namespace, Name string
	Path                                                               string
	// Selectors of list, watch and deletecollection, where they parse; nil otherwise.
	FieldSelector fields.Requirements
	LabelSelector labels.Requirements
}

// Authorizer is one link of the chain. The reason is for the user who is refused.
type Authorizer interface {
	Authorize(ctx context.Context, a *Attributes) (Decision, string, error)
}
