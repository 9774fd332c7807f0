// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package rbac authorizes by roles and bindings read from the watch cache.
package rbac

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
	rules "kogge.dev/kogge/rules/rbac"
)

const group = rbacv1.GroupName

var (
	clusterRoleBindings = schema.GroupResource{Group: group, Resource: "clusterrolebindings"}
	clusterRoles        = schema.GroupResource{Group: group, Resource: "clusterroles"}
	roleBindings        = schema.GroupResource{Group: group, Resource: "rolebindings"}
	roles               = schema.GroupResource{Group: group, Resource: "roles"}
)

// Authorizer answers from roles and bindings. It never denies.
type Authorizer struct {
	reader admission.Reader
	// cluster is an index over the cluster role bindings, which matter to every request. Namespaces have few bindings and are read as they are.
	cluster *admission.Derived[*index]
}

// index finds the bindings of a user without looking at all of them.
type index struct {
	byUser, byGroup map[string][]bound
}

// bound is a binding and the subject of it that led to it.
type bound struct {
	binding *rbacv1.ClusterRoleBinding
	subject *rbacv1.Subject
}

// New makes the authorizer.
func New(reader admission.Reader) *Authorizer {
	return &Authorizer{reader: reader, cluster: admission.Derive(reader, indexOf, clusterRoleBindings)}
}

var _ authz.Authorizer = (*Authorizer)(nil)

// Authorize implements authz.Authorizer. Broken bindings (to roles that are missing) don't hide the others; they are named in
// the reason when nothing allows.
func (z *Authorizer) Authorize(ctx context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	req := rules.Request{
		IsResource: a.ResourceRequest, Verb: a.Verb, APIGroup: a.APIGroup, Resource: a.Resource, Subresource: a.Subresource,
		Name: a.Name, Path: a.Path,
	}
	var errs []error
	var reason string
	z.visit(ctx, &a.User, a.Namespace, func(from source, list []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			errs = append(errs, err)
			return true
		}
		if rules.Allows(list, &req) {
			reason = "RBAC: allowed by " + from.String()
			return false
		}
		return true
	})
	if reason != "" {
		return authz.Allow, reason, nil
	}
	if len(errs) > 0 {
		reason = "RBAC: " + aggregate(errs)
	}
	return authz.NoOpinion, reason, nil
}

// RulesFor returns all rules that apply to a user in a namespace (or cluster-wide when it is empty). An error comes beside
// what could be resolved.
func (z *Authorizer) RulesFor(ctx context.Context, user *request.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var out []rbacv1.PolicyRule
	var errs []error
	z.visit(ctx, user, namespace, func(_ source, list []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		out = append(out, list...)
		return true
	})
	if len(errs) > 0 {
		return out, errors.New(aggregate(errs))
	}
	return out, nil
}

// ConfirmNoEscalation refuses to let a user grant rules that the user does not hold.
func (z *Authorizer) ConfirmNoEscalation(ctx context.Context, user *request.User, namespace string, want []rbacv1.PolicyRule) error {
	have, err := z.RulesFor(ctx, user, namespace)
	missing := rules.Missing(have, want)
	if missing == nil {
		return nil
	}
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", user.Name, user.Groups, strings.Join(missing, "\n"))
	if err != nil {
		text += fmt.Sprintf("; resolution errors: [%v]", err)
	}
	return errors.New(text)
}

// RulesOf returns the rules of the role that a binding in namespace (empty for cluster role bindings) refers to.
func (z *Authorizer) RulesOf(ctx context.Context, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "ClusterRole":
		role, found, err := admission.Get[*rbacv1.ClusterRole](ctx, z.reader, clusterRoles, "", ref.Name)
		if err == nil && !found {
			err = apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: "clusterrole"}, ref.Name)
		}
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	case "Role":
		role, found, err := admission.Get[*rbacv1.Role](ctx, z.reader, roles, namespace, ref.Name)
		if err == nil && !found {
			err = apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: "role"}, ref.Name)
		}
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	}
	return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
}

// visit calls fn with the rules of every binding that applies, cluster-wide ones first, until fn returns false.
func (z *Authorizer) visit(ctx context.Context, user *request.User, namespace string, fn func(source, []rbacv1.PolicyRule, error) bool) {
	if !z.visitCluster(ctx, user, fn) || namespace == "" {
		return
	}
	items, err := z.reader.List(ctx, roleBindings, namespace)
	if err != nil {
		fn(source{}, nil, err)
		return
	}
	for _, item := range items {
		binding, ok := item.(*rbacv1.RoleBinding)
		if !ok {
			continue
		}
		subject, applies := rules.AppliesTo(binding.Subjects, user.Name, user.Groups, namespace)
		if !applies {
			continue
		}
		list, err := z.RulesOf(ctx, binding.RoleRef, namespace)
		if !fn(source{kind: "RoleBinding", name: binding.Name, namespace: namespace, ref: binding.RoleRef, subject: subject}, list, err) {
			return
		}
	}
}

func (z *Authorizer) visitCluster(ctx context.Context, user *request.User, fn func(source, []rbacv1.PolicyRule, error) bool) bool {
	ix, err := z.cluster.Get(ctx)
	if err != nil {
		return fn(source{}, nil, err)
	}
	one := func(list []bound) bool {
		for _, b := range list {
			policy, err := z.RulesOf(ctx, b.binding.RoleRef, "")
			if !fn(source{kind: "ClusterRoleBinding", name: b.binding.Name, ref: b.binding.RoleRef, subject: b.subject}, policy, err) {
				return false
			}
		}
		return true
	}
	if !one(ix.byUser[user.Name]) {
		return false
	}
	for _, g := range user.Groups {
		if !one(ix.byGroup[g]) {
			return false
		}
	}
	return true
}

// indexOf returns the index of all cluster role bindings.
func indexOf(objects [][]kinds.Object) *index {
	ix := &index{byUser: map[string][]bound{}, byGroup: map[string][]bound{}}
	for _, item := range objects[0] {
		binding, ok := item.(*rbacv1.ClusterRoleBinding)
		if !ok {
			continue
		}
		for i := range binding.Subjects {
			key, isGroup, ok := rules.SubjectKey(&binding.Subjects[i], "")
			if !ok {
				continue
			}
			to := ix.byUser
			if isGroup {
				to = ix.byGroup
			}
			to[key] = append(to[key], bound{binding: binding, subject: &binding.Subjects[i]})
		}
	}
	return ix
}

// source names a binding for reasons.
type source struct {
	kind, name, namespace string
	ref                   rbacv1.RoleRef
	subject               *rbacv1.Subject
}

func (s source) String() string {
	name := s.name
	if s.namespace != "" {
		name += "/" + s.namespace
	}
	who := s.subject.Name
	if s.subject.Kind == rbacv1.ServiceAccountKind {
		ns := s.subject.Namespace
		if ns == "" {
			ns = s.namespace
		}
		who += "/" + ns
	}
	return s.kind + " " + strconv.Quote(name) + " of " + s.ref.Kind + " " + strconv.Quote(s.ref.Name) + " to " + s.subject.Kind + " " + strconv.Quote(who)
}

// aggregate joins distinct errors as upstream does: one as it is, several in brackets.
func aggregate(errs []error) string {
	seen := map[string]bool{}
	var texts []string
	for _, err := range errs {
		if t := err.Error(); !seen[t] {
			seen[t] = true
			texts = append(texts, t)
		}
	}
	if len(texts) == 1 {
		return texts[0]
	}
	return "[" + strings.Join(texts, ", ") + "]"
}
