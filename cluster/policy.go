// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"io"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/cluster/control"
)

// WritePolicy writes, as YAML, the RBAC objects that kogge's components need besides upstream's default policy.
func WritePolicy(out io.Writer) error {
	policy := control.Policy()
	var all []any
	meta := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
	}
	for _, o := range policy.ClusterRoles {
		o.TypeMeta = meta("ClusterRole")
		all = append(all, o)
	}
	for _, o := range policy.ClusterRoleBindings {
		o.TypeMeta = meta("ClusterRoleBinding")
		all = append(all, o)
	}
	for _, o := range policy.Roles {
		o.TypeMeta = meta("Role")
		all = append(all, o)
	}
	for _, o := range policy.RoleBindings {
		o.TypeMeta = meta("RoleBinding")
		all = append(all, o)
	}
	for _, o := range all {
		text, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}
