// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package impersonate lets a user that is allowed to act as another one.
package impersonate

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
)

// Request is who a request wants to be.
type Request struct{ want request.User }

// Parse reads who the request wants to be and removes the headers. It returns nil when the request does not ask to be somebody else.
func Parse(header http.Header) (*Request, error) {
	want := request.User{
		Name: header.Get(authenticationv1.ImpersonateUserHeader), UID: header.Get(authenticationv1.ImpersonateUIDHeader),
		Groups: slices.Clone(header.Values(authenticationv1.ImpersonateGroupHeader)), Extra: extras(header),
	}
	switch {
	case want.Name != "":
		strip(header)
		return &Request{want: want}, nil
	case len(want.Groups) > 0 || want.UID != "" || len(want.Extra) > 0:
		return nil, apierrors.NewBadRequest("requested impersonation of groups, uid or extra without impersonating a user name")
	default:
		return nil, nil // nobody else is asked for
	}
}

// Allowed is a user that another may act as.
type Allowed struct {
	User request.User
	// Constraint is the verb of the mode that allowed it; empty for the verb impersonate, which allows it whatever the request does.
	Constraint string
}

// Authorize returns the user if who asks may act as it in this request, and a Forbidden status error otherwise. Modes are tried in order: those that
// are about one sort of user and one sort of request (KEP-5284), then the verb impersonate. The refusal is that of the first that applies.
func (r *Request) Authorize(ctx context.Context, asked *authz.Attributes, authorizer authz.Authorizer) (*Allowed, error) {
	var first error
	for _, m := range modes {
		if !m.applies(&r.want, &asked.User) {
			continue
		}
		as, err := m.authorize(ctx, &r.want, asked, authorizer)
		if err == nil {
			return as, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func extras(header http.Header) map[string][]string {
	var out map[string][]string
	for h, values := range header {
		if !strings.HasPrefix(h, authenticationv1.ImpersonateUserExtraHeaderPrefix) {
			continue
		}
		key := strings.ToLower(h[len(authenticationv1.ImpersonateUserExtraHeaderPrefix):])
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[key] = append(out[key], values...)
	}
	return out
}

func strip(header http.Header) {
	for h := range header {
		if strings.HasPrefix(h, authenticationv1.ImpersonateUserExtraHeaderPrefix) {
			header.Del(h)
		}
	}
	header.Del(authenticationv1.ImpersonateUserHeader)
	header.Del(authenticationv1.ImpersonateGroupHeader)
	header.Del(authenticationv1.ImpersonateUIDHeader)
}

// splitServiceAccount takes the name of a service account's user apart.
func splitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, request.ServiceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && len(validation.NameIsDNSLabel(namespace, false)) == 0 && len(validation.NameIsDNSSubdomain(name, false)) == 0
}

// nodeOf returns the node whose user it is.
func nodeOf(user string) (name string, ok bool) {
	name, ok = strings.CutPrefix(user, request.NodePrefix)
	return name, ok && len(validation.NameIsDNSSubdomain(name, false)) == 0
}
