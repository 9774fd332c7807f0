// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

func role() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "roles",
		Singular:       "role",
		Namespaced:     true,
		NoGeneration:   true,
		CreateOnUpdate: true,
		ValidateName:   pathSegment,
		Storage:        kinds.Storage{Prefix: "roles"},
	}, version.WithKind("Role"),
		func() *rbacv1.Role { return &rbacv1.Role{} },
		func() runtime.Object { return &rbacv1.RoleList{} },
		kinds.Strategy[*rbacv1.Role]{
			Validate:       validateRole,
			ValidateUpdate: func(req kinds.Request, new, _ *rbacv1.Role) field.ErrorList { return validateRole(req, new) },
			Columns:        table.CreatedColumns(),
			Row:            table.CreatedRow[*rbacv1.Role],
		})
}

func clusterRole() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "clusterroles",
		Singular:       "clusterrole",
		NoGeneration:   true,
		CreateOnUpdate: true,
		ValidateName:   pathSegment,
		Storage:        kinds.Storage{Prefix: "clusterroles"},
	}, version.WithKind("ClusterRole"),
		func() *rbacv1.ClusterRole { return &rbacv1.ClusterRole{} },
		func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		kinds.Strategy[*rbacv1.ClusterRole]{
			Validate: func(req kinds.Request, r *rbacv1.ClusterRole) field.ErrorList {
				return validateClusterRole(req, r, nil)
			},
			ValidateUpdate: validateClusterRole,
			Columns:        table.CreatedColumns(),
			Row:            table.CreatedRow[*rbacv1.ClusterRole],
		})
}
