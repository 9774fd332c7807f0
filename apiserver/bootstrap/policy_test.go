// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/kinds"
)

// TestPolicyIsUpstreams holds the typed policy to digests that were made of upstream's own golden files for v1.36.3: what is lost or changed on
// the way through our types shows here.
func TestPolicyIsUpstreams(t *testing.T) {
	p, err := bootstrap.DefaultPolicy()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	add := func(kind string, obj kinds.Object) {
		name := obj.GetName()
		if ns := obj.GetNamespace(); ns != "" {
			name = ns + "/" + name
		}
		got[kind+" "+name] = digest(t, kind, obj)
	}
	for _, o := range p.ClusterRoles {
		add("ClusterRole", o)
	}
	for _, o := range p.ClusterRoleBindings {
		add("ClusterRoleBinding", o)
	}
	for _, o := range p.Roles {
		add("Role", o)
	}
	for _, o := range p.RoleBindings {
		add("RoleBinding", o)
	}
	f, err := os.Open("testdata/policy.sha256")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := 0
	for lines := bufio.NewScanner(f); lines.Scan(); want++ {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		if got[name] != sum {
			t.Errorf("%s has digest %q, upstream's is %s", name, got[name], sum)
		}
	}
	if want != len(got) {
		t.Errorf("the policy has %d objects, upstream's %d", len(got), want)
	}
}

// digest is the SHA-256 of the object's JSON with sorted keys, without what all objects of the policy share.
func digest(t *testing.T, kind string, obj kinds.Object) string {
	t.Helper()
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	meta := tree["metadata"].(map[string]any)
	if fmt.Sprint(meta["annotations"]) != "map[rbac.authorization.kubernetes.io/autoupdate:true]" {
		t.Errorf("%s %s has annotations %v", kind, obj.GetName(), meta["annotations"])
	}
	delete(meta, "annotations")
	labels := meta["labels"].(map[string]any)
	if labels["kubernetes.io/bootstrapping"] != "rbac-defaults" {
		t.Errorf("%s %s has labels %v", kind, obj.GetName(), labels)
	}
	if delete(labels, "kubernetes.io/bootstrapping"); len(labels) == 0 {
		delete(meta, "labels")
	}
	if tree["rules"] == nil {
		delete(tree, "rules")
	}
	delete(tree, "apiVersion")
	tree["kind"] = kind
	out, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(out))
}
