// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver/openapi"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/apiextensions"
)

// definition reads a schema in YAML into a definition with one version.
func definition(t testing.TB, text string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	props := &apiextensionsv1.JSONSchemaProps{}
	if err := yaml.UnmarshalStrict([]byte(text), props); err != nil {
		t.Fatal(err)
	}
	names := apiextensionsv1.CustomResourceDefinitionNames{Plural: "tabs", Singular: "tab", Kind: "Tab", ListKind: "TabList"}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "tabs.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped, Names: names,
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: props},
			}},
		},
		Status: apiextensionsv1.CustomResourceDefinitionStatus{AcceptedNames: names},
	}
}

func tree(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{}}
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	m["apiVersion"], m["kind"] = "example.com/v1", "Tab"
	raw, err = json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return u
}

func serve(t testing.TB, crd *apiextensionsv1.CustomResourceDefinition) *served {
	t.Helper()
	s, err := newServed(crd, relabel, func(context.Context, string) (*apiextensionsv1.CustomResourceDefinition, error) { return crd, nil })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const tabSchema = `
type: object
required: [spec]
properties:
  spec:
    type: object
    required: [name]
    x-kubernetes-validations: [{rule: "self.min <= self.max", message: "min must not exceed max"}]
    properties:
      name: {type: string, maxLength: 5}
      min: {type: integer, default: 1}
      max: {type: integer, default: 9}
      note: {type: string, nullable: true, default: "none"}
      port: {x-kubernetes-int-or-string: true}
      free: {type: object, x-kubernetes-preserve-unknown-fields: true}
      tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}
      list: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [key], items: {type: object, required: [key], properties: {key: {type: string}, value: {type: string}}}}
`

func TestComplete(t *testing.T) {
	v := serve(t, definition(t, tabSchema)).version("v1")
	u := tree(t, `
metadata: {name: a, labels: {x: v}, bogus: 1}
spec: {name: a, unknown: 1, free: {kept: {deep: 1}}, note: null, min: null}
top: 1`)
	unknown, err := v.complete(u)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`unknown field "metadata.bogus"`, `unknown field "spec.unknown"`, `unknown field "top"`}, unknown); diff != "" {
		t.Errorf("unknown fields (-want +got):\n%s", diff)
	}
	want := tree(t, `
metadata: {name: a, labels: {x: v}}
spec: {name: a, free: {kept: {deep: 1}}, note: null, min: 1, max: 9}`)
	if diff := cmp.Diff(want.Object, u.Object); diff != "" {
		t.Errorf("completed (-want +got):\n%s", diff)
	}
	if _, err := v.complete(tree(t, "metadata: {labels: {x: 1}}")); err == nil {
		t.Error("a label that is a number was accepted")
	}
}

func TestValidation(t *testing.T) {
	s := serve(t, definition(t, tabSchema))
	for _, c := range []struct{ name, spec, want string }{
		{"good", "{name: a, min: 1, max: 2, port: http, tags: [a, b], list: [{key: a}, {key: b}]}", ""},
		{"required", "{min: 1, max: 2}", "spec.name: Required value"},
		{"too long", "{name: abcdef, min: 1, max: 2}", "spec.name: Too long: may not be more than 5 bytes"},
		{"type", "{name: 1, min: 1, max: 2}", `spec.name: Invalid value: "integer": spec.name in body must be of type string: "integer"`},
		{"rule", "{name: a, min: 3, max: 2}", "spec: Invalid value: min must not exceed max"},
		{"set", "{name: a, min: 1, max: 2, tags: [a, a]}", `spec.tags[1]: Duplicate value: "a"`},
		{"map", "{name: a, min: 1, max: 2, list: [{key: a}, {key: a}]}", `spec.list[1]: Duplicate value: {"key":"a"}`},
		{"port", "{name: a, min: 1, max: 2, port: true}", "spec.port: Invalid value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.Validate(kinds.Request{}, tree(t, "spec: "+c.spec)).ToAggregate()
			if c.want == "" && got != nil || c.want != "" && (got == nil || !strings.Contains(got.Error(), c.want)) {
				t.Errorf("validate = %v, want %q", got, c.want)
			}
		})
	}
}

func TestRatcheting(t *testing.T) {
	s := serve(t, definition(t, tabSchema))
	old := tree(t, "spec: {name: much-too-long, min: 1, max: 2}")
	if errs := s.ValidateUpdate(kinds.Request{}, tree(t, "spec: {name: much-too-long, min: 2, max: 2}"), old); len(errs) > 0 {
		t.Errorf("an old fault that did not change is refused: %v", errs)
	}
	if errs := s.ValidateUpdate(kinds.Request{}, tree(t, "spec: {name: also-too-long, min: 1, max: 2}"), old); len(errs) == 0 {
		t.Error("a changed fault is accepted")
	}
}

// A rule that was broken before, and whose part of the object did not change, is no fault, but the client is warned.
func TestBrokenRulesOfWhatDidNotChangeAreWarnedOf(t *testing.T) {
	s := serve(t, definition(t, `{type: object, properties: {
		spec: {type: object, properties: {a: {type: integer}}, x-kubernetes-validations: [{rule: "self.a < 2", message: a is small}]}, note: {type: string}}}`))
	var warned []string
	req := kinds.Request{Warn: func(text string) { warned = append(warned, text) }}
	if errs := s.ValidateUpdate(req, tree(t, "{spec: {a: 2}, note: new}"), tree(t, "spec: {a: 2}")); len(errs) > 0 {
		t.Errorf("an old fault that did not change is refused: %v", errs)
	}
	if diff := cmp.Diff([]string{"spec: Invalid value: a is small"}, warned); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestPrepareWithStatus(t *testing.T) {
	crd := definition(t, "{type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}, status: {type: object, x-kubernetes-preserve-unknown-fields: true}}}")
	crd.Spec.Versions[0].Subresources = &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}
	s := serve(t, crd)
	u := tree(t, "spec: {a: 1}\nstatus: {x: 1}")
	s.PrepareCreate(kinds.Request{}, u)
	if _, has := u.Object["status"]; has || u.GetGeneration() != 1 {
		t.Errorf("created = %v", u.Object)
	}
	old := tree(t, "metadata: {generation: 4}\nspec: {a: 1}\nstatus: {x: 1}")
	next := tree(t, "spec: {a: 2}\nstatus: {x: 2}")
	s.PrepareUpdate(kinds.Request{}, next, old)
	if diff := cmp.Diff(tree(t, "metadata: {generation: 5}\nspec: {a: 2}\nstatus: {x: 1}").Object, next.Object); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	next = tree(t, "metadata: {labels: {a: b}}\nspec: {a: 2}\nstatus: {x: 2}")
	s.PrepareStatus(kinds.Request{}, next, old)
	if diff := cmp.Diff(tree(t, "metadata: {generation: 4}\nspec: {a: 1}\nstatus: {x: 2}").Object, next.Object); diff != "" {
		t.Errorf("status updated (-want +got):\n%s", diff)
	}
}

func TestScaleAndTable(t *testing.T) {
	crd := definition(t, "{type: object, x-kubernetes-preserve-unknown-fields: true}")
	v := &crd.Spec.Versions[0]
	v.Subresources = &apiextensionsv1.CustomResourceSubresources{Scale: &apiextensionsv1.CustomResourceSubresourceScale{
		SpecReplicasPath: ".spec.replicas", StatusReplicasPath: ".status.replicas", LabelSelectorPath: new(".status.selector"),
	}}
	v.AdditionalPrinterColumns = []apiextensionsv1.CustomResourceColumnDefinition{
		{Name: "Replicas", Type: "integer", JSONPath: ".spec.replicas"},
		{Name: "Names", Type: "string", JSONPath: ".spec.names[*]"},
		{Name: "Ready", Type: "boolean", JSONPath: ".status.ready"},
		{Name: "Missing", Type: "string", JSONPath: ".status.missing"},
		{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp"},
	}
	s := serve(t, crd)
	gv := s.gvk("v1").GroupVersion()
	u := tree(t, `
metadata: {name: a, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {replicas: 3, names: [x, y]}
status: {replicas: 2, selector: a=b, ready: true}`)
	scale := s.resource.Custom.Scale(gv)
	if spec, status, selector := scale.Get(u); spec != 3 || status != 2 || selector != "a=b" {
		t.Errorf("scale = %d, %d, %q", spec, status, selector)
	}
	if uncounted := tree(t, "metadata: {name: a}\nspec: {replicas: x}"); !scale.Has(u) || scale.Has(uncounted) {
		t.Error("who says how many replicas are desired is not known")
	}
	scale.Set(u, 5)
	table := s.resource.Custom.Table(gv)
	row := table.Row(u, time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC))
	if diff := cmp.Diff([]any{"a", int64(5), "x", true, nil, "5m"}, row); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	if len(table.Columns) != 6 || table.Columns[0].Format != "name" || !strings.Contains(table.Columns[1].Description, ".spec.replicas") {
		t.Errorf("columns = %v", table.Columns)
	}
}

func TestApplyKnowsListsAndMetadata(t *testing.T) {
	s := serve(t, definition(t, tabSchema))
	types, err := s.types("v1")
	if err != nil {
		t.Fatal(err)
	}
	live, err := types.ObjectToTyped(tree(t, "metadata: {name: a, finalizers: [x], labels: {a: b}}\nspec: {name: a, list: [{key: a, value: old}, {key: b}]}"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := types.ObjectToTyped(tree(t, "metadata: {name: a, finalizers: [z], labels: {c: d}}\nspec: {list: [{key: a, value: new}]}"))
	if err != nil {
		t.Fatal(err)
	}
	merged, err := live.Merge(want)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := types.TypedToObject(merged)
	if err != nil {
		t.Fatal(err)
	}
	expect := tree(t, "metadata: {name: a, finalizers: [x, z], labels: {a: b, c: d}}\nspec: {name: a, list: [{key: a, value: new}, {key: b}]}")
	if diff := cmp.Diff(expect.Object, obj.(*unstructured.Unstructured).Object); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

// What is managed of an object in another is known by its fields, and those that every object has are among them.
func TestApplyKnowsObjectsInObjects(t *testing.T) {
	s := serve(t, definition(t, `{type: object, properties: {one: {type: object, x-kubernetes-embedded-resource: true, properties: {spec: {type: object}}}, many: {type: array, items: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}}}`))
	types, err := s.types("v1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := types.ObjectToTyped(tree(t, "one: {apiVersion: v1, kind: Pod, metadata: {name: a, labels: {b: c}}}\nmany: [{apiVersion: v1, kind: Pod, metadata: {name: a}, other: d}]")); err != nil {
		t.Error(err)
	}
}

func TestApplyKnowsTheOtherVersions(t *testing.T) {
	crd := definition(t, tabSchema)
	for _, name := range []string{"v1beta1", "v1alpha1"} {
		v := *crd.Spec.Versions[0].DeepCopy()
		v.Name, v.Storage, v.Served = name, false, name == "v1beta1"
		crd.Spec.Versions = append(crd.Spec.Versions, v)
	}
	s := serve(t, crd)
	types, err := s.converter("v1")
	if err != nil {
		t.Fatal(err)
	}
	for version, known := range map[string]bool{"v1": true, "v1beta1": true, "v1alpha1": true, "v2": false} {
		obj := tree(t, "spec: {list: [{key: a}]}")
		obj.SetGroupVersionKind(s.gvk(version))
		v, err := types.ObjectToTyped(obj)
		if (err == nil) != known {
			t.Errorf("at %s: %v", version, err)
			continue
		}
		if known {
			set, err := v.ToFieldSet()
			if err != nil || !set.Has(fieldpath.MakePathOrDie("spec", "list", fieldpath.KeyByFields("key", "a"), "key")) {
				t.Errorf("at %s: fields %v, %v", version, set, err)
			}
		}
	}
}

func TestDeprecatedVersionsSaySo(t *testing.T) {
	crd := definition(t, tabSchema)
	crd.Spec.Versions[0].Name = "v1beta1"
	for _, name := range []string{"v1alpha1", "v1", "v2"} {
		v := *crd.Spec.Versions[0].DeepCopy()
		v.Name, v.Storage, v.Deprecated = name, false, name != "v1"
		crd.Spec.Versions = append(crd.Spec.Versions, v)
	}
	crd.Spec.Versions[3].DeprecationWarning = new("gone soon")
	got := map[string]string{}
	for _, v := range serve(t, crd).resource.Kind.Served {
		got[v.Version] = v.Deprecated
	}
	want := map[string]string{"v1": "", "v1beta1": "", "v1alpha1": "example.com/v1alpha1 Tab is deprecated; use example.com/v1 Tab", "v2": "gone soon"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestAcceptNames(t *testing.T) {
	crd := definition(t, "{type: object}")
	crd.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	crd.Spec.Names.ShortNames = []string{"t", "tb"}
	acceptNames(crd, map[string]bool{"t": true}, map[string]bool{"Tab": true})
	cond := crd.Status.Conditions[0]
	if cond.Status != apiextensionsv1.ConditionFalse || cond.Reason != "KindConflict" || cond.Message != `"Tab" is already in use` {
		t.Errorf("condition = %+v", cond)
	}
	if n := crd.Status.AcceptedNames; n.Plural != "tabs" || n.Kind != "" || len(n.ShortNames) != 0 {
		t.Errorf("accepted names = %+v", n)
	}
	acceptNames(crd, nil, nil)
	if cond := crd.Status.Conditions[0]; cond.Status != apiextensionsv1.ConditionTrue || crd.Status.AcceptedNames.Kind != "Tab" {
		t.Errorf("condition = %+v, names = %+v", cond, crd.Status.AcceptedNames)
	}
}

// TestUnstructuralSchemas: whatever validation lets in that is not structural is found and said.
func TestUnstructuralSchemas(t *testing.T) {
	const unstructural = "{type: object, properties: {a: {}}}"
	for _, c := range []struct {
		name, schema    string
		preserve, valid bool
		want            string
	}{
		{"structural", tabSchema, false, true, ""},
		{"not structural", unstructural, false, false, ""},
		{"preserving", tabSchema, true, true, "spec.preserveUnknownFields: Invalid value: true: must be false"},
		{"not structural, preserving", unstructural, true, true, "[spec.preserveUnknownFields: Invalid value: true: must be false, " +
			"spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := definition(t, unstructural) // as it may be stored since long ago
			old.Spec.PreserveUnknownFields = true
			next := definition(t, c.schema)
			next.Spec.PreserveUnknownFields, next.Status.StoredVersions = c.preserve, []string{"v1"}
			if _, errs := apiextensions.Validate(next, old); (len(errs) == 0) != c.valid {
				t.Errorf("Validate = %v", errs)
			}
			if mayBeUnstructural(next) {
				judgeSchemas(next)
			}
			got := ""
			if condition := apihelpers.FindCRDCondition(next, apiextensionsv1.NonStructuralSchema); condition != nil {
				got = condition.Message
			}
			if got != c.want {
				t.Errorf("condition = %q, want %q", got, c.want)
			}
		})
	}
}

// faultsOf returns what is wrong with the rules and defaults of a definition.
func faultsOf(t testing.TB, crd *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	t.Helper()
	schemas, _ := apiextensions.Validate(crd, nil)
	return checkRules(t.Context(), schemas)
}

func TestRulesMustCompileAndBeAffordable(t *testing.T) {
	for _, c := range []struct{ name, schema, want string }{
		{"good", tabSchema, ""},
		{"unknown field", `{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: "self.nope == 1"}], properties: {a: {type: integer}}}}}`, "undefined field 'nope'"},
		{"no bool", `{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: "self.a"}], properties: {a: {type: integer}}}}}`, "must evaluate to a bool"},
		{"too expensive", `{type: object, properties: {l: {type: array, items: {type: object, properties: {m: {type: array, items: {type: string}}}}, x-kubernetes-validations: [{rule: "self.all(x, self.all(y, x.m == y.m))"}]}}}`, "estimated rule cost exceeds budget by factor of more than 100x"},
		{"old self in a list without keys", `{type: object, properties: {l: {type: array, maxItems: 3, items: {type: object, properties: {a: {type: integer}}, x-kubernetes-validations: [{rule: "self.a >= oldSelf.a"}]}}}}`, "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[l]"},
		{"old self in lists in each other", `{type: object, properties: {l: {type: array, maxItems: 3, items: {type: array, maxItems: 3, items: {type: integer, x-kubernetes-validations: [{rule: "self >= oldSelf"}]}}}}}`, "within spec.validation.openAPIV3Schema.properties[l]"},
		{"the metadata of an object in another", `{type: object, properties: {o: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true, x-kubernetes-validations: [{rule: "self.metadata.name != 'a' && self.kind != 'b'"}]}}}`, ""},
		{"an optional old self that does not compile", `{type: object, properties: {a: {type: string, x-kubernetes-validations: [{rule: "self == oldSelf", optionalOldSelf: true}]}}}`, "may not be set if oldSelf is not used in rule"},
		{
			"what the expense is",
			`{type: object, properties: {l: {type: array, items: {type: object, properties: {m: {type: array, items: {type: string}}}}, x-kubernetes-validations: [{rule: "self.all(x, self.all(y, x.m == y.m))"}]}}}`,
			"spec.validation.openAPIV3Schema.properties[l].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit",
		},
		{"bad default", `{type: object, properties: {a: {type: integer, maximum: 3, default: 4}}}`, "spec.validation.openAPIV3Schema.properties[a].default: Invalid value"},
		{
			"no such field",
			`{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: "self.a == 1", fieldPath: .b}], properties: {a: {type: integer}}}}}`,
			`spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].fieldPath: Invalid value: ".b": must be a valid path`,
		},
		{"more is wrong", `{type: object, properties: {spec: {type: object, uniqueItems: true, x-kubernetes-validations: [{rule: "self.nope == 1"}]}}}`, ""},
		{"a field", `{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: "self.a == 1", fieldPath: .a}], properties: {a: {type: integer}}}}}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := faultsOf(t, definition(t, c.schema)).ToAggregate()
			if c.want == "" && got != nil || c.want != "" && (got == nil || !strings.Contains(got.Error(), c.want)) {
				t.Errorf("faults = %v, want %q", got, c.want)
			}
		})
	}
}

func TestRulesOfVersionsThatDiffer(t *testing.T) {
	crd := definition(t, tabSchema)
	second := *crd.Spec.Versions[0].DeepCopy()
	second.Name, second.Storage = "v2", false
	crd.Spec.Versions = append(crd.Spec.Versions, second)
	bad := definition(t, `{type: object, x-kubernetes-validations: [{rule: "self.nope"}]}`).Spec.Versions[0].Schema
	crd.Spec.Versions[1].Schema = bad
	if got := faultsOf(t, crd); len(got) != 1 || got[0].Field != "spec.versions[1].schema.openAPIV3Schema.x-kubernetes-validations[0].rule" {
		t.Errorf("errors = %v, want one in the second version", got)
	}
	crd.Spec.Versions[0].Schema = bad
	if got := faultsOf(t, crd); len(got) != 1 || got[0].Field != "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule" {
		t.Errorf("errors = %v, want one in what both have", got)
	}
}

func TestDocumentsReferToComponents(t *testing.T) {
	c := &Controller{served: map[string]*served{"a": serve(t, definition(t, tabSchema))}}
	doc := c.documents("example.com")["apis/example.com/v1"].Make()
	raw := string(doc.Schemas["com.example.v1.Tab"])
	if !strings.Contains(raw, `"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"`) || strings.Contains(raw, "#/definitions/") {
		t.Errorf("schema = %s", raw)
	}
	service := openapi.New(nil)
	service.Set("crd", c.documents("example.com"))
}

func FuzzComplete(f *testing.F) {
	v := serve(f, definition(f, tabSchema)).version("v1")
	f.Add([]byte(`{"apiVersion":"example.com/v1","kind":"Tab","metadata":{"name":"a"},"spec":{"name":"a","list":[{"key":"x"}]}}`))
	f.Add([]byte(`{"apiVersion":"example.com/v1","kind":"Tab","metadata":null,"spec":[1]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		u := &unstructured.Unstructured{}
		if u.UnmarshalJSON(data) != nil {
			return
		}
		if _, err := v.complete(u); err != nil {
			return
		}
		once := u.DeepCopy()
		if _, err := v.complete(u); err != nil {
			t.Fatalf("complete again: %v", err)
		}
		if diff := cmp.Diff(once.Object, u.Object); diff != "" {
			t.Errorf("complete is not idempotent:\n%s", diff)
		}
		_ = v.validate(t.Context(), u)
	})
}

// TestEachVersionHasItsOwnFields selects v1 by one field and v2 by another.
func TestEachVersionHasItsOwnFields(t *testing.T) {
	crd := definition(t, "{type: object, properties: {host: {type: string}, port: {type: integer}}}")
	second := *crd.Spec.Versions[0].DeepCopy()
	second.Name, second.Storage = "v2", false
	crd.Spec.Versions[0].SelectableFields = []apiextensionsv1.SelectableField{{JSONPath: ".host"}}
	second.SelectableFields = []apiextensionsv1.SelectableField{{JSONPath: ".port"}}
	third := *second.DeepCopy()
	third.Name, third.SelectableFields = "v3", nil
	crd.Spec.Versions = append(crd.Spec.Versions, second, third)
	got := map[string]fields.Set{}
	for _, version := range []string{"v1", "v2", "v3"} {
		if of := serve(t, crd).Fields(schema.GroupVersion{Group: "example.com", Version: version}); of != nil {
			got[version] = of(tree(t, "{host: a, port: 80}"))
		}
	}
	if diff := cmp.Diff(map[string]fields.Set{"v1": {"host": "a"}, "v2": {"port": "80"}}, got); diff != "" {
		t.Errorf("selectable fields (-want +got):\n%s", diff)
	}
}

// TestServedIsFewObjects counts what is kept of definitions that nobody uses: each object would stay in another place of the heap.
func TestServedIsFewObjects(t *testing.T) {
	const many, most = 500, 5
	whole := definition(t, tabSchema)
	whole.Spec.Versions[0].Subresources = &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}
	whole.Spec.Names.ShortNames, whole.Status.AcceptedNames.ShortNames = []string{"t"}, []string{"t"}
	objects := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapObjects
	}
	kept := make([]*served, many)
	before := objects()
	for i := range kept {
		kept[i] = serve(t, whole)
	}
	if got := (objects() - before) / many; got > most {
		t.Errorf("%d objects are kept of each definition, want at most %d: itself, its outline, its versions and their descriptors", got, most)
	}
	runtime.KeepAlive(kept)
}
