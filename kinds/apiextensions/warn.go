// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"fmt"
	"maps"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"kogge.dev/kogge/kinds"
)

// warn tells of formats that nothing checks, unless the old definition had them too.
func warn(_ kinds.Request, new, old *apiextensionsv1.CustomResourceDefinition) []string {
	var known []string
	if old != nil {
		known = unknownFormats(old)
	}
	var warnings []string
	for _, format := range unknownFormats(new) {
		if !slices.Contains(known, format) {
			warnings = append(warnings, fmt.Sprintf("unrecognized format %q", format))
		}
	}
	return warnings
}

func unknownFormats(d *apiextensionsv1.CustomResourceDefinition) []string {
	var formats []string
	collect := func(schema *apiextensionsv1.JSONSchemaProps) {
		if schema.Format == "" {
			return
		}
		s := &spec.Schema{SchemaProps: spec.SchemaProps{Format: schema.Format, Type: []string{schema.Type}}}
		formats = append(formats, validation.GetUnrecognizedFormats(s, environment.DefaultCompatibilityVersion())...)
	}
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		each(v.Schema.OpenAPIV3Schema, collect)
	}
	return formats
}

// each visits a schema and all schemas in it. visit must not keep what it is given.
func each(s *apiextensionsv1.JSONSchemaProps, visit func(*apiextensionsv1.JSONSchemaProps)) {
	if s == nil {
		return
	}
	visit(s)
	each(s.Not, visit)
	if s.Items != nil {
		each(s.Items.Schema, visit)
		eachOf(s.Items.JSONSchemas, visit)
	}
	for _, list := range [][]apiextensionsv1.JSONSchemaProps{s.AllOf, s.OneOf, s.AnyOf} {
		eachOf(list, visit)
	}
	for _, named := range []map[string]apiextensionsv1.JSONSchemaProps{s.Properties, s.PatternProperties, s.Definitions} {
		for _, child := range byName(named) {
			each(child, visit)
		}
	}
	for _, more := range []*apiextensionsv1.JSONSchemaPropsOrBool{s.AdditionalProperties, s.AdditionalItems} {
		if more != nil {
			each(more.Schema, visit)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Dependencies)) {
		each(s.Dependencies[name].Schema, visit)
	}
}

func eachOf(list []apiextensionsv1.JSONSchemaProps, visit func(*apiextensionsv1.JSONSchemaProps)) {
	for i := range list {
		each(&list[i], visit)
	}
}
