// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// The two data files are made together; this fails when one of them was not.
func TestTypesAreThoseOfTheDefinitions(t *testing.T) {
	defs, err := readDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	schemas := make(map[string]*spec.Schema, len(defs.Schemas))
	for name, raw := range defs.Schemas {
		schemas[name] = &spec.Schema{}
		if err := json.Unmarshal(raw, schemas[name]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	want, err := schemaconv.ToSchemaFromOpenAPI(schemas, false)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(want.Types, func(a, b smd.TypeDef) int { return strings.Compare(a.Name, b.Name) })
	types, err := readTypes()
	if err != nil {
		t.Fatal(err)
	}
	got := &types.(*applyTypes).schema
	if len(got.Types) != len(want.Types) {
		t.Fatalf("%d types, want %d", len(got.Types), len(want.Types))
	}
	for i := range want.Types {
		if m := want.Types[i].Map; m != nil {
			slices.SortFunc(m.Fields, func(a, b smd.StructField) int { return strings.Compare(a.Name, b.Name) })
		}
		if !reflect.DeepEqual(got.Types[i], want.Types[i]) {
			t.Errorf("type %s differs from that of the definitions", want.Types[i].Name)
		}
	}
	kinds := types.(*applyTypes).kinds
	for gvk, name := range New(nil).modelNames(defs) {
		if got := kinds[gvk].TypeRef.NamedType; got == nil || *got != name {
			t.Errorf("%s has no type, want %s", gvk, name)
		}
	}
}

func TestTypedObjects(t *testing.T) {
	types, err := readTypes()
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c"}}}}
	v, err := types.ObjectToTyped(pod)
	if err != nil {
		t.Fatal(err)
	}
	back, err := types.TypedToObject(v)
	if err != nil {
		t.Fatal(err)
	}
	if name, _, _ := unstructured.NestedString(back.(*unstructured.Unstructured).Object, "spec", "nodeName"); name != "n" {
		t.Errorf("there and back: %v", back)
	}
	odd := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{"bogus": 1}}}
	if _, err := types.ObjectToTyped(odd); err == nil || !strings.Contains(err.Error(), ".spec.bogus: field not declared in schema") {
		t.Errorf("a field that the type does not have: %v", err)
	}
	odd.SetAPIVersion("v9")
	if _, err := types.ObjectToTyped(odd); !runtime.IsNotRegisteredError(err) {
		t.Errorf("a version that does not exist: %v", err)
	}
}
