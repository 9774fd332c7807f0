// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"maps"
	"slices"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// withDefaults returns what of a schema validating its defaults has to look at, and whether that is anything: the way to each default, and all below it but
// the rules that no default reaches. Those would be compiled, which is much of the work, and not be run.
func withDefaults(s *structuralschema.Structural) (structuralschema.Structural, bool) {
	if s.Default.Object != nil {
		out, _ := withRulesOn(s, nil)
		return out, true
	}
	out, found := *s, false
	out.Items, out.Properties = nil, nil
	if s.Items != nil {
		if items, ok := withDefaults(s.Items); ok {
			found = true
			out.Items = new(structuralschema.Structural)
			*out.Items = items
		}
	}
	for name, prop := range s.Properties {
		if kept, ok := withDefaults(&prop); ok {
			found = true
			if out.Properties == nil {
				out.Properties = map[string]structuralschema.Structural{}
			}
			out.Properties[name] = kept
		}
	}
	return out, found
}

// withRulesOn returns a schema without the rules that are neither about values, all of which are of that schema, nor about the defaults in it, and whether that
// is another.
func withRulesOn(s *structuralschema.Structural, values []any) (structuralschema.Structural, bool) {
	if s.Default.Object != nil {
		values = append(slices.Clip(values), s.Default.Object)
	}
	out, changed := *s, false
	if len(values) == 0 && len(s.XValidations) > 0 {
		out.XValidations, changed = nil, true
	}
	if s.Items != nil {
		if items, ok := withRulesOn(s.Items, elementsOf(values)); ok {
			changed = true
			out.Items = new(structuralschema.Structural)
			*out.Items = items
		}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		if values, ok := withRulesOn(s.AdditionalProperties.Structural, fieldsOf(values, "")); ok {
			changed = true
			out.AdditionalProperties = &structuralschema.StructuralOrBool{Bool: s.AdditionalProperties.Bool, Structural: new(structuralschema.Structural)}
			*out.AdditionalProperties.Structural = values
		}
	}
	cloned := false
	for name, prop := range s.Properties {
		stripped, ok := withRulesOn(&prop, fieldsOf(values, name))
		if !ok {
			continue
		}
		if !cloned {
			out.Properties, changed, cloned = maps.Clone(s.Properties), true, true
		}
		out.Properties[name] = stripped
	}
	return out, changed
}

// elementsOf returns what is in those values that are lists.
func elementsOf(values []any) []any {
	var out []any
	for _, v := range values {
		list, _ := v.([]any)
		out = append(out, list...)
	}
	return out
}

// fieldsOf returns the fields of a name of those values that are maps; all of them, if the name is empty.
func fieldsOf(values []any, name string) []any {
	var out []any
	for _, v := range values {
		object, _ := v.(map[string]any)
		if name == "" {
			out = slices.AppendSeq(out, maps.Values(object))
		} else if field, ok := object[name]; ok {
			out = append(out, field)
		}
	}
	return out
}
