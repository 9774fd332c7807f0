// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package rbac describes the kinds of the rbac.authorization.k8s.io API group.
package rbac

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	return []*kinds.Kind{clusterRoleBinding(), clusterRole(), roleBinding(), role()}
}

// version is the only one that is served and stored.
var version = rbacv1.SchemeGroupVersion

func bindingColumns(roleRef, noun string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Role", strings.TrimSuffix(roleRef, " This field is immutable.")),
		table.Age(),
		table.Wide(table.Text("Users", "Users in the "+noun)),
		table.Wide(table.Text("Groups", "Groups in the "+noun)),
		table.Wide(table.Text("ServiceAccounts", "ServiceAccounts in the "+noun)),
	}
}

func bindingRow(meta *metav1.ObjectMeta, ref rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		}
	}
	return []any{
		meta.Name, ref.Kind + "/" + ref.Name, table.Since(meta.CreationTimestamp, now),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", "),
	}
}
