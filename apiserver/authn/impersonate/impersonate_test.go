// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package impersonate_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kogge.dev/kogge/apiserver/authn/impersonate"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
)

// allowing allows to the user admin what is listed as "verb resource/subresource namespace name".
type allowing map[string]bool

func (l allowing) Authorize(_ context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	resource := strings.TrimSuffix(a.Resource+"/"+a.Subresource, "/")
	if group := a.APIGroup; group != "" {
		resource = group + "/" + resource
	}
	if (a.User.Name == "admin" || a.User.Name == agent) && l[a.Verb+" "+resource+" "+a.Namespace+" "+a.Name] {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

// agent is an account of a pod on the node n1.
const agent = "system:serviceaccount:ns:agent"

func TestAuthorize(t *testing.T) {
	const users, extras = "authentication.k8s.io/users", "authentication.k8s.io/userextras/"
	legacy := allowing{
		"impersonate users  jane": true, "impersonate groups  devs": true, "impersonate authentication.k8s.io/uids  7": true, "impersonate " + extras + "scopes  view": true,
		"impersonate serviceaccounts ns bot": true, "impersonate users  system:anonymous": true, "impersonate groups  system:unauthenticated": true,
		"impersonate users  system:node:n1": true, "impersonate groups  system:masters": true,
	}
	constrained := allowing{
		"impersonate:user-info " + users + "  jane": true, "impersonate-on:user-info:get pods ns p": true, "impersonate:user-info authentication.k8s.io/groups  devs": true,
		"impersonate:user-info " + extras + "example.com/scopes  view": true, "impersonate:user-info authentication.k8s.io/groups  system:masters": true,
		"impersonate:serviceaccount authentication.k8s.io/serviceaccounts ns bot": true, "impersonate-on:serviceaccount:get pods ns p": true,
	}
	nodes := allowing{"impersonate:arbitrary-node authentication.k8s.io/nodes  n1": true, "impersonate-on:arbitrary-node:get pods ns p": true}
	own := allowing{"impersonate:associated-node authentication.k8s.io/nodes  *": true, "impersonate-on:associated-node:get pods ns p": true}
	many := allowing{"impersonate:user-info " + users + "  jane": true, "impersonate-on:user-info:get pods ns p": true, "impersonate:user-info authentication.k8s.io/groups  *": true}
	node := &request.User{Name: "system:node:n1", Groups: []string{"system:nodes", "system:authenticated"}}
	bot := &request.User{Name: "system:serviceaccount:ns:bot", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}}
	for _, c := range []struct {
		name       string
		may        allowing
		by         string
		headers    []string
		want       *request.User
		constraint string
		err        string
	}{
		{"nobody", legacy, "", nil, nil, "", ""},
		{"a user", legacy, "", []string{"User", "jane"}, &request.User{Name: "jane", Groups: []string{"system:authenticated"}}, "", ""},
		{
			"everything", legacy, "",
			[]string{"User", "jane", "Group", "devs", "Uid", "7", "Extra-Scopes", "view"},
			&request.User{Name: "jane", UID: "7", Groups: []string{"devs", "system:authenticated"}, Extra: map[string][]string{"scopes": {"view"}}}, "", "",
		},
		{"a service account", legacy, "", []string{"User", bot.Name}, bot, "", ""},
		{"the anonymous user", legacy, "", []string{"User", "system:anonymous"}, &request.User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, "", ""},
		{"a node without its group", legacy, "", []string{"User", "system:node:n1"}, &request.User{Name: "system:node:n1", Groups: []string{"system:authenticated"}}, "", ""},
		{"masters", legacy, "", []string{"User", "jane", "Group", "system:masters"}, &request.User{Name: "jane", Groups: []string{"system:masters", "system:authenticated"}}, "", ""},
		{"a forbidden extra", legacy, "", []string{"User", "jane", "Extra-Scopes", "edit"}, nil, "", `cannot impersonate-on:user-info:get resource "pods" in API group "" in the namespace "ns"`},
		{"a group alone", legacy, "", []string{"Group", "devs"}, nil, "", "without impersonating a user"},
		{"a user for one request", constrained, "", []string{"User", "jane", "Group", "devs", "Extra-Example.com%2Fscopes", "view"}, &request.User{
			Name: "jane", Groups: []string{"devs", "system:authenticated"}, Extra: map[string][]string{"example.com/scopes": {"view"}},
		}, "impersonate:user-info", ""},
		{"a forbidden user", constrained, "", []string{"User", "root"}, nil, "", `users.authentication.k8s.io "root" is forbidden: User "admin" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope`},
		{"an extra key without a domain", constrained, "", []string{"User", "jane", "Extra-Scopes", "view"}, nil, "", "impersonating an invalid key in extra is not allowed"},
		{"masters for one request", constrained, "", []string{"User", "jane", "Group", "system:masters"}, nil, "", "impersonating the system:masters group is not allowed"},
		{"an account for one request", constrained, "", []string{"User", bot.Name}, bot, "impersonate:serviceaccount", ""},
		{"an account with other groups", constrained, "", []string{"User", bot.Name, "Group", "devs"}, nil, "", `cannot impersonate resource "serviceaccounts"`},
		{"many groups at once", many, "", []string{"User", "jane", "Group", "a", "Group", "b", "Group", "c", "Group", "d"}, &request.User{
			Name: "jane", Groups: []string{"a", "b", "c", "d", "system:authenticated"},
		}, "impersonate:user-info", ""},
		{"few groups one by one", many, "", []string{"User", "jane", "Group", "a", "Group", "b", "Group", "c"}, nil, "", `groups.authentication.k8s.io "a" is forbidden`},
		{"any node", nodes, "", []string{"User", node.Name}, node, "impersonate:arbitrary-node", ""},
		{"the own node", own, agent, []string{"User", node.Name}, node, "impersonate:associated-node", ""},
		{"another's node", own, agent, []string{"User", "system:node:n2"}, nil, "", "cannot impersonate-on:arbitrary-node:get"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"Accept": {"x"}}
			for i := 0; i < len(c.headers); i += 2 {
				h.Add("Impersonate-"+c.headers[i], c.headers[i+1])
			}
			by := request.User{Name: "admin"}
			if c.by != "" {
				by = request.User{Name: c.by, Extra: map[string][]string{"authentication.kubernetes.io/node-name": {"n1"}}}
			}
			got, err := impersonated(t, h, &authz.Attributes{User: by, ResourceRequest: true, Verb: "get", APIVersion: "v1", Resource: "pods", Namespace: "ns", Name: "p"}, c.may)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error = %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(h) != 1 {
				t.Errorf("headers stay: %v", h)
			}
			if c.want == nil {
				if got != nil {
					t.Errorf("user = %v, want none", got)
				}
				return
			}
			if diff := cmp.Diff(&impersonate.Allowed{User: *c.want, Constraint: c.constraint}, got); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
		})
	}
}

func impersonated(t *testing.T, h http.Header, asked *authz.Attributes, may allowing) (*impersonate.Allowed, error) {
	t.Helper()
	r, err := impersonate.Parse(h)
	if r == nil {
		if err != nil && !apierrors.IsBadRequest(err) {
			t.Errorf("error = %v, want a bad request", err)
		}
		return nil, err
	}
	return r.Authorize(t.Context(), asked, may)
}
