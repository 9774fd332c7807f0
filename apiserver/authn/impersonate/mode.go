// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package impersonate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
)

// mode is a way to be allowed to act as another. A constrained one asks whether who asks may act as a user of its sort
// (impersonate:NAME), and whether while doing so they may do what the request does (impersonate-on:NAME:VERB).
type mode struct {
	// name is empty for the mode that is not constrained.
	name    string
	applies func(want, by *request.User) bool
}

// modes in the order in which they are tried, the narrowest first.
var modes = []mode{
	// A service account of a pod acts as the node that the pod runs on.
	{associatedNode, func(want, by *request.User) bool {
		node, ok := nodeOf(want.Name)
		_, _, account := splitServiceAccount(by.Name)
		on := by.Extra[authn.NodeNameKey]
		return ok && account && nameOnly(want) && len(on) == 1 && on[0] == node
	}},
	{"arbitrary-node", func(want, _ *request.User) bool {
		_, ok := nodeOf(want.Name)
		return ok && nameOnly(want)
	}},
	{"serviceaccount", func(want, _ *request.User) bool {
		_, _, ok := splitServiceAccount(want.Name)
		return ok && nameOnly(want)
	}},
	{"user-info", func(want, _ *request.User) bool {
		_, node := nodeOf(want.Name)
		_, _, account := splitServiceAccount(want.Name)
		return !node && !account
	}},
	{"", func(_, _ *request.User) bool { return true }},
}

const associatedNode = "associated-node"

// nameOnly reports whether the rest of the user is left to the server.
func nameOnly(u *request.User) bool { return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0 }

func (m *mode) constrained() bool { return m.name != "" }

// verb that allows to act as somebody.
func (m *mode) verb() string {
	if !m.constrained() {
		return "impersonate"
	}
	return "impersonate:" + m.name
}

// authorize returns the user if the mode lets who asks act as it in this request.
func (m *mode) authorize(ctx context.Context, want *request.User, asked *authz.Attributes, authorizer authz.Authorizer) (*Allowed, error) {
	c := check{mode: m, by: asked.User, authorizer: authorizer}
	if m.name == associatedNode {
		// The authorizer is asked about the account on any node: the node that it is on was compared already.
		c.by.Extra = map[string][]string{"authentication.kubernetes.io/associated-node-keys": slices.Sorted(maps.Keys(asked.User.Extra))}
	}
	out := &Allowed{}
	if m.constrained() {
		out.Constraint = m.verb()
		on := *asked
		on.User, on.Verb = c.by, "impersonate-on:"+m.name+":"+asked.Verb
		if err := authz.Require(ctx, authorizer, &on); err != nil {
			return nil, err
		}
	}
	for _, ask := range []func(context.Context, *request.User) error{c.name, c.uid, c.groups, c.extra} {
		if err := ask(ctx, want); err != nil {
			return nil, err
		}
	}
	out.User = *want
	out.User.Groups = m.complete(want)
	return out, nil
}

// complete adds the groups that the real user would have: those of a service account or node when none are named, and
// membership of everybody authenticated (or, for the anonymous user, unauthenticated).
func (m *mode) complete(want *request.User) []string {
	out := slices.Clone(want.Groups)
	if namespace, _, ok := splitServiceAccount(want.Name); ok && len(out) == 0 {
		out = []string{request.GroupServiceAccounts, request.GroupServiceAccounts + ":" + namespace}
	}
	if _, ok := nodeOf(want.Name); ok && m.constrained() {
		out = []string{request.GroupNodes}
	}
	everybody := request.GroupAuthenticated
	if want.Name == request.Anonymous || slices.Contains(out, request.GroupUnauthenticated) {
		everybody = request.GroupUnauthenticated
	}
	if !slices.Contains(out, everybody) {
		out = append(out, everybody)
	}
	return out
}

// check asks about the parts of a user, each of which must be allowed.
type check struct {
	mode       *mode
	by         request.User
	authorizer authz.Authorizer
}

// many is from how many parts on a constrained mode asks about all at once first.
const many = 4

// about makes a question. Users, groups and service accounts are of the core group for the verb impersonate.
func (c *check) about(resource, name string) *authz.Attributes {
	a := &authz.Attributes{User: c.by, ResourceRequest: true, Verb: c.mode.verb(), APIVersion: "v1", Resource: resource, Name: name}
	if c.mode.constrained() || resource == "userextras" || resource == "uids" {
		a.APIGroup = authenticationv1.GroupName
	}
	return a
}

func (c *check) require(ctx context.Context, a *authz.Attributes) error {
	return authz.Require(ctx, c.authorizer, a)
}

func (c *check) name(ctx context.Context, want *request.User) error {
	a := c.about("users", want.Name)
	if namespace, name, ok := splitServiceAccount(want.Name); ok {
		a.Resource, a.Namespace, a.Name = "serviceaccounts", namespace, name
	}
	if node, ok := nodeOf(want.Name); ok && c.mode.constrained() {
		a.Resource, a.Name = "nodes", node
		if c.mode.name == associatedNode {
			a.Name = "*"
		}
	}
	return c.require(ctx, a)
}

func (c *check) uid(ctx context.Context, want *request.User) error {
	if want.UID == "" {
		return nil
	}
	return c.require(ctx, c.about("uids", want.UID))
}

func (c *check) groups(ctx context.Context, want *request.User) error {
	if c.mode.constrained() {
		switch {
		case slices.Contains(want.Groups, ""):
			return authz.Forbidden(c.about("groups", ""), "impersonating the empty string group is not allowed")
		case slices.Contains(want.Groups, request.GroupMasters):
			return authz.Forbidden(c.about("groups", request.GroupMasters), "impersonating the system:masters group is not allowed")
		case len(want.Groups) >= many && c.require(ctx, c.about("groups", "*")) == nil:
			return nil
		}
	}
	for _, group := range want.Groups {
		if err := c.require(ctx, c.about("groups", group)); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) extra(ctx context.Context, want *request.User) error {
	about := func(key, value string) *authz.Attributes {
		a := c.about("userextras", value)
		a.Subresource = key
		return a
	}
	keys := slices.Sorted(maps.Keys(want.Extra))
	if c.mode.constrained() {
		values := 0
		for _, key := range keys {
			if text := unfitExtra(key, want.Extra[key]); text != "" {
				return authz.Forbidden(about("", ""), text)
			}
			values += len(want.Extra[key])
		}
		if values >= many && c.require(ctx, about("*", "*")) == nil {
			return nil
		}
	}
	for _, key := range keys {
		for _, value := range want.Extra[key] {
			if err := c.require(ctx, about(key, value)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unfitExtra says what is wrong with an extra value; empty when nothing is.
func unfitExtra(key string, values []string) string {
	switch errs := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key); {
	case key == "":
		return "impersonating the empty string key in extra is not allowed"
	case len(errs) > 0:
		return fmt.Sprintf("impersonating an invalid key in extra is not allowed: %v", errs.ToAggregate())
	case key != strings.ToLower(key):
		return fmt.Sprintf("impersonating a non-lowercase key in extra is not allowed: %q", key)
	case slices.Contains(values, ""):
		return "impersonating the empty string value in extra is not allowed"
	default:
		return ""
	}
}
