// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"context"
	"errors"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/rbac"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/internal/equal"
)

// escalation keeps users from granting, by role or by binding, what they do not hold themselves. Upstream does this in the
// storage of roles and bindings; it can't be switched off there, nor here.
type escalation struct {
	authorizer authz.Authorizer
	rbac       *rbac.Authorizer
}

var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// Validate implements admission.Validator.
func (p escalation) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Resource.Group != rbacv1.GroupName || a.Subresource != "" || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	if slices.Contains(a.User.Groups, request.GroupMasters) || a.Operation == admission.Update && onlyGarbageFields(a.Object, a.Old) {
		return nil
	}
	switch obj := a.Object.(type) {
	case *rbacv1.ClusterRole:
		return p.role(ctx, a, "", obj.Rules, aggregates(obj) || aggregatesOld(a))
	case *rbacv1.Role:
		return p.role(ctx, a, a.Namespace, obj.Rules, false)
	case *rbacv1.ClusterRoleBinding:
		return p.binding(ctx, a, "", obj.RoleRef)
	case *rbacv1.RoleBinding:
		return p.binding(ctx, a, a.Namespace, obj.RoleRef)
	}
	return nil
}

func aggregates(r *rbacv1.ClusterRole) bool {
	return r.AggregationRule != nil && len(r.AggregationRule.ClusterRoleSelectors) > 0
}

func aggregatesOld(a *admission.Attributes) bool {
	old, ok := admission.Old[*rbacv1.ClusterRole](a)
	return ok && aggregates(old)
}

func (p escalation) role(ctx context.Context, a *admission.Attributes, namespace string, rules []rbacv1.PolicyRule, aggregated bool) error {
	if p.allowed(ctx, &authz.Attributes{
		User: a.User, ResourceRequest: true, Verb: "escalate", APIGroup: a.Resource.Group, APIVersion: "*",
		Resource: a.Resource.Resource, Name: a.Name, Namespace: namespace,
	}) {
		return nil
	}
	if err := p.rbac.ConfirmNoEscalation(ctx, &a.User, namespace, rules); err != nil {
		return admission.Forbidden(a, err)
	}
	if aggregated && p.rbac.ConfirmNoEscalation(ctx, &a.User, namespace, everything) != nil {
		return admission.Forbidden(a, errors.New("must have cluster-admin privileges to use the aggregationRule"))
	}
	return nil
}

func (p escalation) binding(ctx context.Context, a *admission.Attributes, namespace string, ref rbacv1.RoleRef) error {
	resource := "clusterroles"
	if ref.Kind == "Role" {
		resource = "roles"
	}
	if p.allowed(ctx, &authz.Attributes{
		User: a.User, ResourceRequest: true, Verb: "bind", APIGroup: ref.APIGroup, APIVersion: "*", Resource: resource, Name: ref.Name, Namespace: namespace,
	}) {
		return nil
	}
	rules, err := p.rbac.RulesOf(ctx, ref, namespace)
	if err != nil {
		if apierrors.IsNotFound(err) { // upstream says so of the binding, by the role's name
			return apierrors.NewNotFound(a.Resource.GroupResource(), ref.Name)
		}
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return err
		}
		return admission.Forbidden(a, err)
	}
	if err := p.rbac.ConfirmNoEscalation(ctx, &a.User, namespace, rules); err != nil {
		return admission.Forbidden(a, err)
	}
	return nil
}

func (p escalation) allowed(ctx context.Context, a *authz.Attributes) bool {
	decision, _, err := p.authorizer.Authorize(ctx, a)
	return err == nil && decision == authz.Allow
}

// onlyGarbageFields tells updates by which an object is only let go: owner references and finalizers.
func onlyGarbageFields(obj, old runtime.Object) bool {
	if obj == nil || old == nil {
		return false
	}
	next := obj.DeepCopyObject()
	n, ok1 := next.(metav1.Object)
	o, ok2 := old.(metav1.Object)
	if !ok1 || !ok2 {
		return false
	}
	n.SetOwnerReferences(o.GetOwnerReferences())
	n.SetFinalizers(o.GetFinalizers())
	n.SetManagedFields(o.GetManagedFields())
	n.SetResourceVersion(o.GetResourceVersion())
	return equal.Semantic(next, old)
}
