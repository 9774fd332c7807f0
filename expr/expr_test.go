// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/expr"
)

func input(name string, data map[string]string) *expr.Input {
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	obj := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
	return &expr.Input{
		Operation: "CREATE", Resource: resource, Kind: kind, RequestResource: resource, RequestKind: kind, Namespace: "n", Name: name, Object: obj,
		User: expr.User{Name: "jane", Groups: []string{"devs"}},
	}
}

func TestMatch(t *testing.T) {
	c := expr.NewCompiler()
	for _, tc := range []struct {
		name       string
		conditions []string
		ok, fails  bool
	}{
		{"no condition", nil, true, false},
		{"all true", []string{"object.metadata.name == 'a'", "request.userInfo.username == 'jane'", "'devs' in request.userInfo.groups"}, true, false},
		{"one false", []string{"true", "object.metadata.name == 'b'"}, false, false},
		{"false beats an error", []string{"object.data.missing == 'x'", "false"}, false, false},
		{"an error", []string{"object.data.missing == 'x'", "true"}, false, true},
		{"no such syntax", []string{"object.("}, false, true},
		{"no bool", []string{"'text'"}, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			named := make([]expr.Named, len(tc.conditions))
			for i, text := range tc.conditions {
				named[i] = expr.Named{Name: text, Expression: text}
			}
			ok, failed, err := c.Match(named).Eval(t.Context(), input("a", nil))
			if ok != tc.ok || (err != nil) != tc.fails {
				t.Errorf("Eval = %v, %q, %v; want %v, error %v", ok, failed, err, tc.ok, tc.fails)
			}
		})
	}
}

func TestPolicyMessages(t *testing.T) {
	p, err := expr.NewCompiler().Policy(expr.PolicySource{
		Variables: []expr.Named{{Name: "n", Expression: "size(object.data)"}, {Name: "twice", Expression: "variables.n * 2"}},
		Validations: []expr.Validation{
			{Expression: "variables.twice == 4"},
			{Expression: "variables.n > 5", MessageExpression: "'only ' + string(variables.n)"},
			{Expression: "variables.n > 5", Message: "too few", MessageExpression: "object.data.missing"},
			{Expression: "  variables.n > 5  "},
			{Expression: "object.data.missing == 'x'"},
		},
		Annotations: []expr.Named{{Name: "note", Expression: "'n=' + string(variables.n)"}, {Name: "nothing", Expression: "null"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	verdicts, notes, err := p.Eval(t.Context(), input("a", map[string]string{"x": "", "y": ""}))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "only 2", "too few", "failed expression: variables.n > 5", "no such key: missing"} {
		if v := verdicts[i]; v.OK != (want == "") || !strings.Contains(v.Message, want) {
			t.Errorf("validation %d = %+v, want %q", i, v, want)
		}
	}
	if notes[0].Value != "n=2" || notes[1].Value != "" {
		t.Errorf("annotations = %+v", notes)
	}
}

func TestMutations(t *testing.T) {
	c := expr.NewCompiler()
	list, err := c.Mutations(false, []expr.Named{{Name: "who", Expression: "request.userInfo.username"}}, []expr.MutationSource{
		{Expression: `Object{metadata: Object.metadata{labels: {"by": variables.who}}}`},
		{Expression: `[JSONPatch{op: "add", path: "/data/" + jsonpatch.escapeKey("a/b"), value: "1"}]`, JSONPatch: true},
		{Expression: `Object{spec: Object.status{x: 1}}`},
		{Expression: `[JSONPatch{op: "add", path: "/data", value: Object.data{a: "b", n: 2}}]`, JSONPatch: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	change, err := list[0].Eval(t.Context(), input("a", nil))
	if err != nil || change.Apply["metadata"].(map[string]any)["labels"] == nil {
		t.Errorf("apply configuration = %v, %v", change.Apply, err)
	}
	change, err = list[1].Eval(t.Context(), input("a", map[string]string{}))
	if err != nil || len(change.Patch) != 1 {
		t.Fatalf("patch = %v, %v", change.Patch, err)
	}
	after, err := change.Patch.Apply([]byte(`{"data":{}}`))
	if err != nil || string(after) != `{"data":{"a/b":"1"}}` {
		t.Errorf("patched = %s, %v", after, err)
	}
	if _, err := list[2].Eval(t.Context(), input("a", nil)); err == nil {
		t.Error("an object of the wrong type was accepted")
	}
	change, err = list[3].Eval(t.Context(), input("a", nil))
	if err != nil {
		t.Fatal(err)
	}
	if after, err := change.Patch.Apply([]byte(`{}`)); err != nil || string(after) != `{"data":{"a":"b","n":2}}` {
		t.Errorf("patched with an object = %s, %v", after, err)
	}
}

func FuzzMatch(f *testing.F) {
	for _, seed := range []string{"object.metadata.name == 'a'", "true", "[1,2,3].all(x, x > 0)", "object.data.map(k, k)", "1 / 0 == 1", "quantity('1').isLessThan(quantity('2'))", "("} {
		f.Add(seed)
	}
	c := expr.NewCompiler()
	in := input("a", map[string]string{"x": "y"})
	f.Fuzz(func(t *testing.T, text string) {
		ok, _, err := c.Match([]expr.Named{{Name: "c", Expression: text}}).Eval(t.Context(), in)
		if ok && err != nil {
			t.Errorf("Eval(%q) = true and %v", text, err)
		}
	})
}
