// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rbac_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/rbac"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
)

// world is a random set of roles and bindings over few names, so that they meet.
type world struct {
	clusterRoles    []*rbacv1.ClusterRole
	roles           []*rbacv1.Role
	clusterBindings []*rbacv1.ClusterRoleBinding
	bindings        []*rbacv1.RoleBinding
}

func (w *world) objects() []kinds.Object {
	var out []kinds.Object
	for _, o := range w.clusterRoles {
		out = append(out, o)
	}
	for _, o := range w.roles {
		out = append(out, o)
	}
	for _, o := range w.clusterBindings {
		out = append(out, o)
	}
	for _, o := range w.bindings {
		out = append(out, o)
	}
	return out
}

func drawWorld(t *rapid.T) *world {
	some := func(label string, of ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, 2, rapid.ID[string]).Draw(t, label)
	}
	rules := func() []rbacv1.PolicyRule {
		r := rbacv1.PolicyRule{Verbs: some("verbs", "get", "list", "*"), APIGroups: some("groups", "", "apps", "*"), Resources: some("resources", "pods", "pods/log", "*/log", "*")}
		if rapid.Bool().Draw(t, "named") {
			r.ResourceNames = some("names", "a", "b")
		}
		return []rbacv1.PolicyRule{r}
	}
	subject := func() rbacv1.Subject {
		return rapid.SampledFrom([]rbacv1.Subject{
			{Kind: "User", Name: "jane"}, {Kind: "Group", Name: "devs"}, {Kind: "ServiceAccount", Name: "bot"}, {Kind: "ServiceAccount", Namespace: "n1", Name: "bot"},
		}).Draw(t, "subject")
	}
	w := &world{}
	for i := range rapid.IntRange(0, 3).Draw(t, "cluster roles") {
		w.clusterRoles = append(w.clusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("r", i)}, Rules: rules()})
	}
	for _, ns := range []string{"n1", "n2"} {
		for i := range rapid.IntRange(0, 2).Draw(t, "roles") {
			w.roles = append(w.roles, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("r", i)}, Rules: rules()})
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "bindings") {
			w.bindings = append(w.bindings, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("b", i)}, Subjects: []rbacv1.Subject{subject()},
				RoleRef: rbacv1.RoleRef{Kind: rapid.SampledFrom([]string{"Role", "ClusterRole"}).Draw(t, "ref"), Name: fmt.Sprint("r", rapid.IntRange(0, 2).Draw(t, "role"))},
			})
		}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "cluster bindings") {
		w.clusterBindings = append(w.clusterBindings, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("b", i)}, Subjects: []rbacv1.Subject{subject(), subject()},
			RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: fmt.Sprint("r", rapid.IntRange(0, 2).Draw(t, "role"))},
		})
	}
	return w
}

// allows is the definition of RBAC, written as plainly as possible: some rule of some role of some binding that means the user.
func (w *world) allows(a *authz.Attributes) bool {
	means := func(subjects []rbacv1.Subject, namespace string) bool {
		for _, s := range subjects {
			ns := s.Namespace
			if ns == "" {
				ns = namespace
			}
			if s.Kind == "User" && s.Name == a.User.Name || s.Kind == "Group" && slices.Contains(a.User.Groups, s.Name) ||
				s.Kind == "ServiceAccount" && ns != "" && a.User.Name == "system:serviceaccount:"+ns+":"+s.Name {
				return true
			}
		}
		return false
	}
	rule := func(r rbacv1.PolicyRule) bool {
		in := func(list []string, item string) bool {
			return slices.Contains(list, "*") || slices.Contains(list, item)
		}
		full := strings.TrimSuffix(a.Resource+"/"+a.Subresource, "/")
		resource := in(r.Resources, full) || a.Subresource != "" && slices.Contains(r.Resources, "*/"+a.Subresource)
		return in(r.Verbs, a.Verb) && in(r.APIGroups, a.APIGroup) && resource && (len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
	}
	role := func(ref rbacv1.RoleRef, namespace string) bool {
		for _, r := range w.clusterRoles {
			if ref.Kind == "ClusterRole" && r.Name == ref.Name && slices.ContainsFunc(r.Rules, rule) {
				return true
			}
		}
		for _, r := range w.roles {
			if ref.Kind == "Role" && r.Name == ref.Name && r.Namespace == namespace && slices.ContainsFunc(r.Rules, rule) {
				return true
			}
		}
		return false
	}
	for _, b := range w.clusterBindings {
		if means(b.Subjects, "") && role(b.RoleRef, "") {
			return true
		}
	}
	for _, b := range w.bindings {
		if a.Namespace != "" && b.Namespace == a.Namespace && means(b.Subjects, b.Namespace) && role(b.RoleRef, b.Namespace) {
			return true
		}
	}
	return false
}

func TestAgreesWithTheDefinition(t *testing.T) {
	users := []request.User{{Name: "jane"}, {Name: "joe", Groups: []string{"devs"}}, {Name: "system:serviceaccount:n1:bot"}, {Name: "nobody"}}
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		reader := admissiontest.NewReader(w.objects()...)
		z := rbac.New(reader)
		for range 10 {
			a := &authz.Attributes{
				User: rapid.SampledFrom(users).Draw(t, "user"), ResourceRequest: true, Verb: rapid.SampledFrom([]string{"get", "list", "create"}).Draw(t, "verb"),
				APIGroup: rapid.SampledFrom([]string{"", "apps", "batch"}).Draw(t, "group"), Resource: rapid.SampledFrom([]string{"pods", "secrets"}).Draw(t, "resource"),
				Subresource: rapid.SampledFrom([]string{"", "log"}).Draw(t, "sub"), Namespace: rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "ns"),
				Name: rapid.SampledFrom([]string{"", "a", "c"}).Draw(t, "name"),
			}
			decision, reason, err := z.Authorize(t.Context(), a)
			if err != nil || (decision == authz.Allow) != w.allows(a) {
				t.Fatalf("Authorize(%+v) = %v, %q, %v; the definition says %v", a, decision, reason, err, w.allows(a))
			}
		}
	})
}

func TestIndexFollowsBindings(t *testing.T) {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "b"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"},
	}
	reader := admissiontest.NewReader(role)
	z := rbac.New(reader)
	a := &authz.Attributes{User: request.User{Name: "jane"}, ResourceRequest: true, Verb: "get", Resource: "pods"}
	for _, step := range []struct {
		do   func()
		want authz.Decision
	}{
		{func() {}, authz.NoOpinion},
		{func() { reader.Put(binding) }, authz.Allow},
		{func() { reader.Delete(binding) }, authz.NoOpinion},
	} {
		step.do()
		if got, _, _ := z.Authorize(t.Context(), a); got != step.want {
			t.Errorf("Authorize = %v, want %v", got, step.want)
		}
	}
}

func TestReasonsNameTheBinding(t *testing.T) {
	z := rbac.New(admissiontest.NewReader(
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "r"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "b"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "bot"}}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "r"}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "broken"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "gone"}},
	))
	ask := func(user string) string {
		_, reason, _ := z.Authorize(t.Context(), &authz.Attributes{User: request.User{Name: user}, ResourceRequest: true, Verb: "get", Resource: "pods", Namespace: "n"})
		return reason
	}
	if got, want := ask("system:serviceaccount:n:bot"), `RBAC: allowed by RoleBinding "b/n" of Role "r" to ServiceAccount "bot/n"`; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
	if got, want := ask("jane"), `RBAC: role.rbac.authorization.k8s.io "gone" not found`; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
}
