// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"kogge.dev/kogge/apiserver/request"
)

// Upstream lets CEL expressions ask an authorizer of ours: the CEL library knows the interface of k8s.io/apiserver.
func Upstream(z Authorizer) authorizer.Authorizer { return upstream{z} }

type upstream struct{ authorizer Authorizer }

// Authorize implements authorizer.Authorizer.
func (u upstream) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	q := &Attributes{
		ResourceRequest: a.IsResourceRequest(), Verb: a.GetVerb(), APIGroup: a.GetAPIGroup(), APIVersion: a.GetAPIVersion(),
		Resource: a.GetResource(), Subresource: a.GetSubresource(), Namespace: a.GetNamespace(), Name: a.GetName(), Path: a.GetPath(),
	}
	if who := a.GetUser(); who != nil {
		q.User = request.User{Name: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: who.GetExtra()}
	}
	// Selectors that don't parse leave the question unrestricted, as for requests.
	if reqs, err := a.GetFieldSelector(); err == nil {
		q.FieldSelector = reqs
	}
	if reqs, err := a.GetLabelSelector(); err == nil {
		q.LabelSelector = reqs
	}
	decision, reason, err := u.authorizer.Authorize(ctx, q)
	switch decision {
	case Allow:
		return authorizer.DecisionAllow, reason, err
	case Deny:
		return authorizer.DecisionDeny, reason, err
	default:
		return authorizer.DecisionNoOpinion, reason, err
	}
}
