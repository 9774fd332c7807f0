// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func TestConvertedObjects(t *testing.T) {
	in := tree(t, "apiVersion: example.com/v1\nkind: Tab\nmetadata: {name: a, namespace: n, uid: u, generation: 3, labels: {old: x}, finalizers: [x.y/z]}\nspec: {a: b}")
	for _, c := range []struct{ name, converted, want string }{
		{"a good one", "apiVersion: example.com/v2\nkind: Tab\nmetadata: {name: a, namespace: n, uid: u, labels: {new: z}}\nspec: {num: 1}", ""},
		{"another name", "apiVersion: example.com/v2\nkind: Tab\nmetadata: {name: b, namespace: n, uid: u}", "invalid object: must have the same name: a != b"},
		{"another uid", "apiVersion: example.com/v2\nkind: Tab\nmetadata: {name: a, namespace: n}", "invalid object: must have the same UID: u != "},
		{"another kind", "apiVersion: example.com/v2\nkind: Other\nmetadata: {name: a, namespace: n, uid: u}", "invalid object at index 0: invalid kind (expected Tab, received Other)"},
		{"another version", "kind: Tab\napiVersion: example.com/v1\nmetadata: {name: a, namespace: n, uid: u}", "invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v1)"},
		{"a label that is none", "apiVersion: example.com/v2\nkind: Tab\nmetadata: {name: a, namespace: n, uid: u, labels: {\"a b\": c}}", "invalid metadata: metadata.labels: Invalid value: \"a b\""},
		{"a label of another type", "apiVersion: example.com/v2\nkind: Tab\nmetadata: {name: a, namespace: n, uid: u, labels: {a: 1}}", "invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := yaml.YAMLToJSON([]byte(c.converted))
			if err != nil {
				t.Fatal(err)
			}
			out, err := accepted(in, []runtime.RawExtension{{Raw: raw}}, "example.com/v2")
			if c.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("error %v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n, ok := out.Object["spec"].(map[string]any)["num"].(int64); !ok || n != 1 {
				t.Errorf("a whole number became %#v", out.Object["spec"])
			}
			if out.GetGeneration() != 3 || len(out.GetFinalizers()) != 1 || len(out.GetLabels()) != 1 || out.GetLabels()["new"] != "z" {
				t.Errorf("metadata %v, want those of before with other labels", out.Object["metadata"])
			}
		})
	}
	if _, err := accepted(in, nil, "example.com/v2"); err == nil || err.Error() != "0 objects, expected 1" {
		t.Errorf("no object: %v", err)
	}
}

// A version shows, and stores, only the fields that its schema has.
func TestConversionPrunes(t *testing.T) {
	crd := definition(t, `{type: object, properties: {spec: {type: object, properties: {a: {type: string}, b: {type: string}}}}}`)
	second := crd.Spec.Versions[0].DeepCopy()
	second.Name, second.Storage = "v2", false
	second.Schema.OpenAPIV3Schema.Properties["spec"].Properties["a"] = apiextensionsv1.JSONSchemaProps{Type: "string"}
	delete(second.Schema.OpenAPIV3Schema.Properties["spec"].Properties, "b")
	crd.Spec.Versions = append(crd.Spec.Versions, *second)
	s := serve(t, crd)
	out, err := s.convertTo(tree(t, "apiVersion: example.com/v1\nkind: Tab\nmetadata: {name: a}\nspec: {a: x, b: y}"), "v2")
	if err != nil {
		t.Fatal(err)
	}
	if spec := out.(*unstructured.Unstructured).Object["spec"].(map[string]any); len(spec) != 1 || spec["a"] != "x" {
		t.Errorf("spec %v, want only a", spec)
	}
}
