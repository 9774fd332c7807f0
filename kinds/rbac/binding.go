// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
)

func roleBinding() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "rolebindings",
		Singular:       "rolebinding",
		Namespaced:     true,
		NoGeneration:   true,
		CreateOnUpdate: true,
		ValidateName:   pathSegment,
		Storage:        kinds.Storage{Prefix: "rolebindings"},
	}, version.WithKind("RoleBinding"),
		func() *rbacv1.RoleBinding { return &rbacv1.RoleBinding{} },
		func() runtime.Object { return &rbacv1.RoleBindingList{} },
		kinds.Strategy[*rbacv1.RoleBinding]{
			Default:        func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
			Validate:       validateRoleBinding,
			ValidateUpdate: validateRoleBindingUpdate,
			Columns:        bindingColumns(rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"], "roleBinding"),
			Row: func(b *rbacv1.RoleBinding, now time.Time) []any {
				return bindingRow(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
			},
		})
}

func clusterRoleBinding() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "clusterrolebindings",
		Singular:       "clusterrolebinding",
		NoGeneration:   true,
		CreateOnUpdate: true,
		ValidateName:   pathSegment,
		Storage:        kinds.Storage{Prefix: "clusterrolebindings"},
	}, version.WithKind("ClusterRoleBinding"),
		func() *rbacv1.ClusterRoleBinding { return &rbacv1.ClusterRoleBinding{} },
		func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		kinds.Strategy[*rbacv1.ClusterRoleBinding]{
			Default:        func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
			Validate:       validateClusterRoleBinding,
			ValidateUpdate: validateClusterRoleBindingUpdate,
			Columns:        bindingColumns(rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], "clusterRoleBinding"),
			Row: func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
				return bindingRow(&b.ObjectMeta, b.RoleRef, b.Subjects, now)
			},
		})
}

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		s := &subjects[i]
		if s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}
