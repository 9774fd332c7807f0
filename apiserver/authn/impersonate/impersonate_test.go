// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package impersonate_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/apiserver/authn/impersonate"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
)

// allowing allows what is listed as "resource/subresource namespace name".
type allowing map[string]bool

func (l allowing) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	if a.Verb == "impersonate" && a.User.Name == "admin" && l[a.Resource+"/"+a.Subresource+" "+a.Namespace+" "+a.Name] {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

func TestUser(t *testing.T) {
	all := allowing{
		"users/  jane": true, "groups/  devs": true, "uids/  7": true, "userextras/scopes  view": true, "serviceaccounts/ ns bot": true,
		"users/  system:anonymous": true, "groups/  system:unauthenticated": true,
	}
	for _, c := range []struct {
		name    string
		headers []string
		want    *request.User
		err     string
	}{
		{"nobody", nil, nil, ""},
		{"a user", []string{"Impersonate-User", "jane"}, &request.User{Name: "jane", Groups: []string{"system:authenticated"}}, ""},
		{
			"everything",
			[]string{"Impersonate-User", "jane", "Impersonate-Group", "devs", "Impersonate-Uid", "7", "Impersonate-Extra-Scopes", "view"},
			&request.User{Name: "jane", UID: "7", Groups: []string{"devs", "system:authenticated"}, Extra: map[string][]string{"scopes": {"view"}}}, "",
		},
		{
			"a service account",
			[]string{"Impersonate-User", "system:serviceaccount:ns:bot"},
			&request.User{Name: "system:serviceaccount:ns:bot", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}}, "",
		},
		{"the anonymous user", []string{"Impersonate-User", "system:anonymous"}, &request.User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, ""},
		{"a forbidden user", []string{"Impersonate-User", "root"}, nil, `users "root" is forbidden: User "admin" cannot impersonate resource "users" in API group "" at the cluster scope`},
		{"a forbidden group", []string{"Impersonate-User", "jane", "Impersonate-Group", "system:masters"}, nil, `groups "system:masters" is forbidden`},
		{"a forbidden extra", []string{"Impersonate-User", "jane", "Impersonate-Extra-Scopes", "edit"}, nil, `cannot impersonate resource "userextras/scopes"`},
		{"a group alone", []string{"Impersonate-Group", "devs"}, nil, "without impersonating a user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"Accept": {"x"}}
			for i := 0; i < len(c.headers); i += 2 {
				h.Add(c.headers[i], c.headers[i+1])
			}
			got, err := impersonate.User(t.Context(), h, &request.User{Name: "admin"}, all)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error = %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
			if len(h) != 1 {
				t.Errorf("headers stay: %v", h)
			}
		})
	}
}
