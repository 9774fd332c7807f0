// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package impersonate lets a user that is allowed to act as another one.
package impersonate

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
)

const serviceAccountPrefix = request.ServiceAccountPrefix

// User returns who the request wants to be, nil when it does not ask to be somebody else. Every part (user, groups, uid, extra
// values) needs the verb impersonate; a refusal is a Forbidden status error. The headers are removed.
func User(ctx context.Context, header http.Header, by *request.User, authorizer authz.Authorizer) (*request.User, error) {
	name := header.Get(authenticationv1.ImpersonateUserHeader)
	groups := header.Values(authenticationv1.ImpersonateGroupHeader)
	uid := header.Get(authenticationv1.ImpersonateUIDHeader)
	extra := extras(header)
	if name == "" {
		if len(groups) > 0 || uid != "" || len(extra) > 0 {
			return nil, apierrors.NewInternalError(errors.New("requested impersonation of groups, uid or extra without impersonating a user"))
		}
		return nil, nil // nobody else is asked for
	}
	as := &request.User{Name: name, UID: uid, Extra: extra}
	for _, q := range questions(as, groups) {
		q.User, q.Verb, q.ResourceRequest = *by, "impersonate", true
		if err := authz.Require(ctx, authorizer, &q); err != nil {
			return nil, err
		}
	}
	as.Groups = completeGroups(name, groups)
	strip(header)
	return as, nil
}

// questions lists what the authorizer must allow, in a fixed order.
func questions(as *request.User, groups []string) []authz.Attributes {
	var out []authz.Attributes
	if ns, sa, ok := splitServiceAccount(as.Name); ok {
		out = append(out, authz.Attributes{Resource: "serviceaccounts", Namespace: ns, Name: sa})
	} else {
		out = append(out, authz.Attributes{Resource: "users", Name: as.Name})
	}
	for _, g := range groups {
		out = append(out, authz.Attributes{Resource: "groups", Name: g})
	}
	keys := make([]string, 0, len(as.Extra))
	for k := range as.Extra {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		for _, v := range as.Extra[k] {
			out = append(out, authz.Attributes{APIGroup: "authentication.k8s.io", APIVersion: "v1", Resource: "userextras", Subresource: k, Name: v})
		}
	}
	if as.UID != "" {
		out = append(out, authz.Attributes{APIGroup: "authentication.k8s.io", APIVersion: "v1", Resource: "uids", Name: as.UID})
	}
	return out
}

// completeGroups adds what the real user would have: a service account's groups when none are named, and membership of
// everybody authenticated (or, for the anonymous user, unauthenticated).
func completeGroups(name string, groups []string) []string {
	out := slices.Clone(groups)
	if ns, _, ok := splitServiceAccount(name); ok && len(groups) == 0 {
		out = append(out, request.GroupServiceAccounts, request.GroupServiceAccounts+":"+ns)
	}
	if name == request.Anonymous {
		if !slices.Contains(out, request.GroupUnauthenticated) {
			out = append(out, request.GroupUnauthenticated)
		}
		return out
	}
	if !slices.Contains(out, request.GroupAuthenticated) && !slices.Contains(out, request.GroupUnauthenticated) {
		out = append(out, request.GroupAuthenticated)
	}
	return out
}

func extras(header http.Header) map[string][]string {
	var out map[string][]string
	for h, values := range header {
		if len(h) <= len(authenticationv1.ImpersonateUserExtraHeaderPrefix) || !strings.HasPrefix(h, authenticationv1.ImpersonateUserExtraHeaderPrefix) {
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

func splitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}
