// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/controllers/localvolume"
)

// localVolumePolicy lets the provisioner of local volumes do what external provisioners do.
func localVolumePolicy() bootstrap.Policy {
	const name = "kogge:" + localvolume.Name
	return bootstrap.Policy{
		ClusterRoles: []*rbacv1.ClusterRole{{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules: []rbacv1.PolicyRule{
				{Verbs: []string{"create", "update", "delete"}, APIGroups: []string{""}, Resources: []string{"persistentvolumes"}},
				{Verbs: []string{"update"}, APIGroups: []string{""}, Resources: []string{"persistentvolumeclaims"}},
				{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"}},
				{Verbs: []string{"create", "patch", "update"}, APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"events"}},
			},
		}},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: localvolume.Name}},
		}},
	}
}
