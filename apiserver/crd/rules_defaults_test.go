// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// defaultFaults validates the defaults of a schema as it is; what is found has no order.
func defaultFaults(t testing.TB, s *structuralschema.Structural) []string {
	t.Helper()
	errs, err := defaulting.ValidateDefaults(t.Context(), field.NewPath("schema"), s, true, true)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, err := range errs {
		out = append(out, selfName.ReplaceAllString(err.Error(), "selfType"))
	}
	slices.Sort(out)
	return out
}

func countRules(s *structuralschema.Structural) int {
	if s == nil {
		return 0
	}
	n := len(s.XValidations) + countRules(s.Items)
	if s.AdditionalProperties != nil {
		n += countRules(s.AdditionalProperties.Structural)
	}
	for _, prop := range s.Properties {
		n += countRules(&prop)
	}
	return n
}

// TestWithDefaults: what is wrong with defaults is found by what is left of the schema likewise. The first rule of each schema that has one is reached.
func TestWithDefaults(t *testing.T) {
	const spec = "type: object\nproperties:\n  spec:\n    type: object\n    properties:\n"
	for _, c := range []struct {
		name, schema string
		rules        int // that are left
		want         string
	}{
		{"none", "type: object\nproperties: {a: {type: array, items: {type: string}, x-kubernetes-validations: [{rule: 'true'}]}}", 0, ""},
		{"of a scalar", spec + "      a: {type: string, default: x, x-kubernetes-validations: [{rule: self == 'y'}]}\n      b: {type: string, x-kubernetes-validations: [{rule: self == 'y'}]}", 1, "failed rule"},
		{"of a number too large", spec + "      a: {type: integer, maximum: 3, default: 4}", 0, "should be less than or equal to 3"},
		{"rules above", spec + "      a: {type: object, x-kubernetes-validations: [{rule: 'false'}], properties: {b: {type: string, default: x}}}", 1, ""},
		{"rules below, reached", spec + "      a: {type: object, default: {b: {c: 1}}, properties: {b: {type: object, x-kubernetes-validations: [{rule: self.c > 1}], properties: {c: {type: integer}}}}}", 1, "failed rule"},
		{"rules below, not reached", spec + "      a: {type: object, default: {}, properties: {b: {type: object, x-kubernetes-validations: [{rule: self.c > 1}], properties: {c: {type: integer}}}}}", 0, ""},
		{"a broken rule, reached", spec + "      a: {type: object, default: {b: x}, properties: {b: {type: string, x-kubernetes-validations: [{rule: self.nope}]}}}", 1, "rule compile error"},
		{"a broken rule, not reached", spec + "      a: {type: object, default: {}, properties: {b: {type: string, x-kubernetes-validations: [{rule: self.nope}]}}}", 0, ""},
		{"a rule that asks for what is not there", spec + "      a: {type: object, default: {}, x-kubernetes-validations: [{rule: self.b.c > 1}], properties: {b: {type: object, properties: {c: {type: integer}}}}}", 1, "no such key"},
		{"null", spec + "      a: {type: object, default: {b: null}, properties: {b: {type: string, nullable: true, x-kubernetes-validations: [{rule: 'false'}]}}}", 1, ""},
		{"in a list", spec + "      a: {type: array, default: [{b: 1}], items: {type: object, x-kubernetes-validations: [{rule: self.b > 1}], properties: {b: {type: integer}, c: {type: integer, x-kubernetes-validations: [{rule: self > 1}]}}}}", 1, "failed rule"},
		{"an empty list", spec + "      a: {type: array, default: [], items: {type: object, x-kubernetes-validations: [{rule: self.b > 1}], properties: {b: {type: integer}}}}", 0, ""},
		{"in a map", spec + "      a: {type: object, default: {x: {b: 1}}, additionalProperties: {type: object, x-kubernetes-validations: [{rule: self.b > 1}], properties: {b: {type: integer}, c: {type: integer, x-kubernetes-validations: [{rule: self > 1}]}}}}", 1, "failed rule"},
		{"an empty map", spec + "      a: {type: object, default: {}, additionalProperties: {type: integer, x-kubernetes-validations: [{rule: self > 1}]}}", 0, ""},
		{"one in another", spec + "      a: {type: object, default: {}, properties: {b: {type: object, default: {c: 1}, properties: {c: {type: integer, x-kubernetes-validations: [{rule: self > 1}]}}}}}", 1, "failed rule"},
		{"in a list without one", spec + "      a: {type: array, items: {type: object, properties: {b: {type: object, default: {c: 1}, x-kubernetes-validations: [{rule: self.c > 1}], properties: {c: {type: integer}}}}}}", 1, "failed rule"},
		{"transitions", spec + "      a: {type: integer, default: 1, x-kubernetes-validations: [{rule: oldSelf.hasValue(), optionalOldSelf: true}, {rule: self > oldSelf}]}", 2, "failed rule"},
		{"unknown fields", spec + "      a: {type: object, default: {c: 1}, properties: {b: {type: integer}}}", 0, "must not have unknown fields"},
		{
			"in metadata",
			spec + "      a: {type: object, x-kubernetes-embedded-resource: true, properties: {metadata: {type: object, properties: {name: {type: string, default: _x}, namespace: {type: string}}}, kind: {type: string, default: a b}, spec: {type: object}}}",
			0, "must result in valid metadata",
		},
		{"embedded", spec + "      a: {type: object, x-kubernetes-embedded-resource: true, default: {apiVersion: v1, kind: Pod, spec: {n: 1}}, x-kubernetes-validations: [{rule: self.kind == 'Node'}], properties: {spec: {type: object, properties: {n: {type: integer}}}}}", 1, "failed rule"},
		{"many", routeSchema, 6, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := structural(t, c.schema)
			rules := countRules(s)
			less, some := withDefaults(s)
			if n := countRules(&less); some && n != c.rules {
				t.Errorf("%d rules are left, want %d", n, c.rules)
			}
			var got []string
			if some {
				got = defaultFaults(t, &less)
			}
			want := defaultFaults(t, s)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if all := strings.Join(got, "\n"); c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("faults = %s, want %q", all, c.want)
			}
			if n := countRules(s); n != rules {
				t.Errorf("the schema has %d rules, %d before", n, rules)
			}
		})
	}
}
