// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"errors"
	"net/http"
	"slices"

	"kogge.dev/kogge/apiserver/request"
)

// Union asks authenticators in order; the first that recognises somebody wins. An error of one does not stop the next ones:
// a request may carry a stale token beside a good certificate. Errors are returned, joined, only when nobody
// recognised the user. Everybody but the anonymous user becomes a member of system:authenticated.
type Union []Authenticator

// Authenticate implements Authenticator.
func (u Union) Authenticate(r *http.Request) (*request.User, bool, error) {
	var errs []error
	for _, a := range u {
		user, ok, err := a.Authenticate(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return withAuthenticated(user), true, nil
		}
	}
	return nil, false, errors.Join(errs...)
}

func withAuthenticated(u *request.User) *request.User {
	if u.Name == request.Anonymous || slices.Contains(u.Groups, request.GroupAuthenticated) || slices.Contains(u.Groups, request.GroupUnauthenticated) {
		return u
	}
	out := *u
	out.Groups = append(slices.Clip(slices.Clone(u.Groups)), request.GroupAuthenticated)
	return &out
}

// WithAnonymous adds the anonymous user at the end of the chain: a request that carries no credentials at all becomes
// system:anonymous. A request with bad credentials does not.
type WithAnonymous struct {
	Next Authenticator
	// Allowed limits anonymous requests by path; nil allows all paths and leaves the decision to authorization.
	Allowed func(path string) bool
}

// Authenticate implements Authenticator.
func (w WithAnonymous) Authenticate(r *http.Request) (*request.User, bool, error) {
	user, ok, err := w.Next.Authenticate(r)
	if ok || err != nil {
		return user, ok, err
	}
	if w.Allowed != nil && !w.Allowed(r.URL.Path) {
		return nil, false, nil
	}
	return &request.User{Name: request.Anonymous, Groups: []string{request.GroupUnauthenticated}}, true, nil
}

// AnonymousPaths is design law 2: without credentials only health, version and the join discovery can be asked for. What
// may be done there is still RBAC's to say.
func AnonymousPaths(path string) bool {
	switch path {
	case "/healthz", "/livez", "/readyz", "/version", "/version/",
		"/api/v1/namespaces/kube-public/configmaps/cluster-info":
		return true
	}
	return false
}

// AnonymousHealthPaths is AnonymousPaths and the single health checks below them.
func AnonymousHealthPaths(path string) bool {
	if AnonymousPaths(path) {
		return true
	}
	for _, prefix := range []string{"/healthz/", "/livez/", "/readyz/"} {
		if len(path) > len(prefix) && path[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}
