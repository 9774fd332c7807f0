// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/cluster/control"
)

// TestPolicyHasARoleForEveryIdentity reads what "kogge policy" prints: upstream's default policy and it must bind every identity that the
// manual names, and no binding may name a role that is in neither.
func TestPolicyHasARoleForEveryIdentity(t *testing.T) {
	var out bytes.Buffer
	if err := WritePolicy(&out); err != nil {
		t.Fatal(err)
	}
	upstream, err := bootstrap.DefaultPolicy()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{} // roles, by kind and name
	for _, r := range upstream.ClusterRoles {
		known["ClusterRole "+r.Name] = true
	}
	for _, r := range upstream.Roles {
		known["Role "+r.Namespace+"/"+r.Name] = true
	}
	var bindings []rbacv1.RoleBinding // those of clusters too, whose fields are the same
	for text := range strings.SplitSeq(out.String(), "---\n") {
		var b rbacv1.RoleBinding
		if err := yaml.Unmarshal([]byte(text), &b); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		switch b.Kind {
		case "":
		case "ClusterRole":
			known["ClusterRole "+b.Name] = true
		case "Role":
			known["Role "+b.Namespace+"/"+b.Name] = true
		default:
			bindings = append(bindings, b)
		}
	}
	for _, b := range bindings {
		role := b.RoleRef.Kind + " " + b.RoleRef.Name
		if b.RoleRef.Kind == "Role" {
			role = "Role " + b.Namespace + "/" + b.RoleRef.Name
		}
		if !known[role] {
			t.Errorf("%s %s binds to %s, which there is not", b.Kind, b.Name, role)
		}
	}
	for _, want := range []struct{ user, role string }{
		{bootstrap.CloudUser, "system:cloud-controller-manager"},
		{bootstrap.CloudUser, "system:auth-delegator"},
		{bootstrap.CloudUser, "extension-apiserver-authentication-reader"},
		{control.NodeNetworkUser, "kogge:node-network"},
	} {
		if !slices.ContainsFunc(bindings, func(b rbacv1.RoleBinding) bool {
			return b.RoleRef.Name == want.role && slices.ContainsFunc(b.Subjects, func(s rbacv1.Subject) bool { return s.Name == want.user })
		}) {
			t.Errorf("%s is not bound to %s", want.user, want.role)
		}
	}
}
