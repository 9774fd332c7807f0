// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"sigs.k8s.io/yaml"
)

// A schema converted node by node is what the library makes of the whole, or refused for the same reason.
func TestStructuralIsTheLibrarys(t *testing.T) {
	for name, text := range map[string]string{
		"none":     "null",
		"empty":    "{}",
		"anything": "{type: object, x-kubernetes-preserve-unknown-fields: true, properties: {}, additionalProperties: true}",
		"much": `
type: object
description: a thing
required: [spec]
x-kubernetes-validations: [{rule: "self.a == 1", message: no}]
properties:
  spec:
    type: object
    nullable: true
    default: {name: x, list: [1]}
    properties:
      name: {type: string, maxLength: 5, enum: [x, y], pattern: "^x", format: date}
      port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string, not: {properties: {a: {minLength: 1}}}}]}
      map: {type: object, additionalProperties: {type: array, maxItems: 3, items: {type: object, properties: {deep: {type: integer, minimum: 1}}}}}
      list: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: object, required: [k], properties: {k: {type: string}}}}
      bare: {type: array, items: {}}
  status: {type: object, additionalProperties: false, x-kubernetes-embedded-resource: true, x-kubernetes-map-type: atomic}
`,
		"a list of items":     "{type: object, properties: {a: {type: array, items: [{type: string}]}}}",
		"a reference":         `{type: object, properties: {a: {type: object, additionalProperties: {$ref: "#/x"}}}}`,
		"nothing is unknown":  "{type: object, properties: {a: {type: array, items: {x-kubernetes-preserve-unknown-fields: false}}}}",
		"patterns":            `{type: object, patternProperties: {"^a": {type: string}}}`,
		"a part that is none": "{type: object, properties: {a: {oneOf: [{id: x}]}}}",
	} {
		t.Run(name, func(t *testing.T) {
			var schema *apiextensionsv1.JSONSchemaProps
			if err := yaml.Unmarshal([]byte(text), &schema); err != nil {
				t.Fatal(err)
			}
			var internal *apiextensions.JSONSchemaProps
			if schema != nil {
				internal = &apiextensions.JSONSchemaProps{}
				if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(schema, internal, nil); err != nil {
					t.Fatal(err)
				}
			}
			want, refused := structuralschema.NewStructural(internal)
			got, err := Structural(schema)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Structural (-want +got):\n%s", diff)
			}
			if (err == nil) != (refused == nil) || err != nil && err.Error() != refused.Error() {
				t.Errorf("Structural = %v, want %v", err, refused)
			}
		})
	}
}
