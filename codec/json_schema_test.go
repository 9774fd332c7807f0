// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"kogge.dev/kogge/codec"
)

// definition defines a kind in two versions, whose schema has as many fields on each of its levels.
func definition(levels, fields int) *apiextensionsv1.CustomResourceDefinition {
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com", Labels: map[string]string{"a": "b"}}}
	d.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	d.Spec.Group, d.Spec.Scope = "example.com", apiextensionsv1.NamespaceScoped
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"}
	for _, name := range []string{"v1alpha1", "v1"} {
		d.Spec.Versions = append(d.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{
			Name: name, Served: true, Storage: name == "v1",
			Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: new(branch(levels, fields))},
			Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
		})
	}
	return d
}

// branch is a schema with fields of all the kinds that definitions have, some of them with fields of their own.
func branch(levels, fields int) apiextensionsv1.JSONSchemaProps {
	s := apiextensionsv1.JSONSchemaProps{Type: "object", Required: []string{"field0"}, Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
	s.Description = "What the author of the type wrote about it, which is most of what there is in a definition, in a line or two."
	for i := range fields {
		f := apiextensionsv1.JSONSchemaProps{Type: "string", Description: strings.Repeat("a field's description is shorter. ", i%4)}
		switch {
		case i%6 == 1:
			f.Pattern, f.MaxLength = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, new(int64(63))
		case i%6 == 2:
			f.Type, f.Format, f.Minimum, f.Default = "integer", "int32", new(0.0), &apiextensionsv1.JSON{Raw: []byte(`1`)}
		case i%6 == 3 && levels > 1:
			f = branch(levels-1, fields)
		case i%6 == 4 && levels > 1:
			f.Type, f.Items = "array", &apiextensionsv1.JSONSchemaPropsOrArray{Schema: new(branch(levels-1, fields))}
		case i%6 == 5:
			f.Type, f.AdditionalProperties = "object", &apiextensionsv1.JSONSchemaPropsOrBool{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}}
		}
		s.Properties[fmt.Sprintf("field%d", i)] = f
	}
	return s
}

func TestJSONOfFilledDefinitions(t *testing.T) {
	raws := []string{"", "null", "1.50", `"<\u2028"`, `{"b": [1, {"a":"&"}], "a": {}}` + "\n", `[]`, `"x"`}
	left := 0 // How many schemas are still filled: each contains several others.
	fillers := []any{
		func(j *apiextensionsv1.JSON, c randfill.Continue) { j.Raw = []byte(raws[c.Intn(len(raws))]) },
		func(s *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
			if left--; left >= 0 {
				c.FillNoCustom(s)
			}
		},
	}
	some := randfill.NewWithSeed(1).NilChance(0.5).NumElements(0, 3).Funcs(fillers...)
	all := randfill.NewWithSeed(1).NilChance(0).NumElements(1, 2).Funcs(fillers...)
	for i := range 200 {
		d := new(apiextensionsv1.CustomResourceDefinition)
		left = 50
		some.Fill(d)
		if i%10 == 0 {
			left = 50
			all.Fill(&d.Spec)
		}
		d.ManagedFields = nil // Random bytes are no JSON.
		sameJSON(t, d)
		if _, err := codec.AppendJSON(nil, d); err != nil {
			t.Errorf("AppendJSON() failed with %v", err)
		}
	}
	sameJSON(t, definition(3, 12))
}

func TestJSONOfEitherOr(t *testing.T) {
	type (
		schema = apiextensionsv1.JSONSchemaProps
		array  = apiextensionsv1.JSONSchemaPropsOrArray
		choice = apiextensionsv1.JSONSchemaPropsOrBool
		words  = apiextensionsv1.JSONSchemaPropsOrStringArray
		raw    = apiextensionsv1.JSON
	)
	s := schema{Type: "<s>", Not: &schema{}, Properties: map[string]schema{"<": {}, "": {Items: &array{}}}}
	for _, obj := range []any{
		&array{}, &array{Schema: &s}, &array{JSONSchemas: []schema{}}, &array{JSONSchemas: []schema{{}, s}}, &array{Schema: &s, JSONSchemas: []schema{s}},
		&choice{}, &choice{Allows: true}, &choice{Schema: &s}, &choice{Allows: true, Schema: &s},
		&words{}, &words{Schema: &s}, &words{Property: []string{}}, &words{Property: []string{"<", ""}}, &words{Schema: &s, Property: []string{"a"}},
		&raw{}, &raw{Raw: []byte{}}, &raw{Raw: []byte(`null`)}, &raw{Raw: []byte("{\n}\n")}, &raw{Raw: []byte("\n")}, &raw{Raw: []byte(`{"<`)}, &raw{Raw: []byte("1 2")},
		&schema{Items: &array{}, AdditionalItems: &choice{}, AdditionalProperties: &choice{Schema: &schema{}}, Default: &raw{}, Enum: []raw{{}, {Raw: []byte(`"a"`)}}},
		&schema{Dependencies: map[string]words{"b": {}, "a": {Schema: &s}}, Definitions: map[string]schema{}, PatternProperties: map[string]schema{"\xff": s}},
		&schema{Properties: map[string]schema{"a": {Maximum: new(math.Inf(1))}}}, &schema{Items: &array{Schema: &schema{Default: &raw{Raw: []byte(`{`)}}}},
		[]array{{Schema: &s}, {}},
		map[string]choice{"b": {}, "a": {Schema: &s}},
		&map[string]choice{"b": {}, "a": {Schema: &s}}, &map[string]raw{"b": {}, "a": {Raw: []byte(`[ ]`)}},
	} {
		sameJSON(t, obj)
	}
}

func BenchmarkJSONOfDefinition(b *testing.B) {
	obj := definition(4, 12)
	data, err := codec.Marshal(obj, codec.JSON)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var to []byte
	for b.Loop() {
		if to, err = codec.AppendJSON(to[:0], obj); err != nil {
			b.Fatal(err)
		}
	}
}
