// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
)

// sharing says which parts all versions have alike. Such a part is judged once and named as a field of the spec: the API
// once kept it there, and clients have always been told so. A definition with one version shares everything.
type sharing struct{ schema, subresources, columns, selectable bool }

// places are the paths of the parts that one call judges; nil for those that it leaves alone.
type places struct {
	schema, subresources, columns, selectable *field.Path
	// top is set where the parts are named as fields of the spec.
	top bool
}

func sharedParts(versions []apiextensionsv1.CustomResourceDefinitionVersion) sharing {
	s := sharing{true, true, true, true}
	for i := range versions {
		a, b := &versions[0], &versions[i]
		s.schema = s.schema && equal.Semantic(a.Schema, b.Schema)
		s.subresources = s.subresources && equal.Semantic(a.Subresources, b.Subresources)
		s.columns = s.columns && equal.Semantic(a.AdditionalPrinterColumns, b.AdditionalPrinterColumns)
		s.selectable = s.selectable && equal.Semantic(a.SelectableFields, b.SelectableFields)
	}
	return s
}

// own returns the places of what a version at path has for itself.
func (s sharing) own(path *field.Path) places {
	var p places
	if !s.schema {
		p.schema = path.Child("schema")
	}
	if !s.subresources {
		p.subresources = path.Child("subresources")
	}
	if !s.columns {
		p.columns = path.Child("additionalPrinterColumns")
	}
	if !s.selectable {
		p.selectable = path.Child("selectableFields")
	}
	return p
}

// common returns the places of what all versions share; path is that of the spec.
func (s sharing) common(path *field.Path) places {
	p := places{top: true}
	if s.schema {
		p.schema = path.Child("validation")
	}
	if s.subresources {
		p.subresources = path.Child("subresources")
	}
	if s.columns {
		p.columns = path.Child("additionalPrinterColumns")
	}
	if s.selectable {
		p.selectable = path.Child("selectableFields")
	}
	return p
}

func schemaOf(v *apiextensionsv1.CustomResourceDefinitionVersion) *apiextensionsv1.JSONSchemaProps {
	if v.Schema == nil {
		return nil
	}
	return v.Schema.OpenAPIV3Schema
}

func requireSchemas(versions []apiextensionsv1.CustomResourceDefinitionVersion, r rules, path *field.Path) field.ErrorList {
	if !r.schemas {
		return nil
	}
	var errs field.ErrorList
	for i := range versions {
		if schemaOf(&versions[i]) == nil {
			errs = append(errs, field.Required(path.Index(i).Child("schema", "openAPIV3Schema"), ""))
		}
	}
	return errs
}

// validateParts judges the parts of one version that have a place. It returns the schema if that is one of them and nothing is wrong with it.
func validateParts(v *apiextensionsv1.CustomResourceDefinitionVersion, at places, preserve bool, r rules) (judged *Schema, errs field.ErrorList) {
	schema := schemaOf(v)
	if at.schema != nil && schema != nil {
		status := v.Subresources != nil && v.Subresources.Status != nil
		judged, errs = validateSchema(schema, status, preserve, r, at.schema)
	}
	if at.subresources != nil && v.Subresources != nil && v.Subresources.Scale != nil {
		errs = append(errs, validateScale(v.Subresources.Scale, at.subresources)...)
	}
	if at.columns != nil {
		for i := range v.AdditionalPrinterColumns {
			errs = append(errs, validateColumn(&v.AdditionalPrinterColumns[i], at.columns.Index(i))...)
		}
	}
	switch {
	case at.selectable == nil || len(v.SelectableFields) == 0:
	case at.schema != nil && schema != nil: // A schema in another place is none for them.
		errs = append(errs, validateSelectableFields(v.SelectableFields, schema, at.selectable)...)
	case at.top:
		errs = append(errs, field.Invalid(at.selectable, "", "may only be set when validations.schema is included"))
	default:
		errs = append(errs, field.Invalid(at.selectable, "", "may only be set when `version.schema.openAPIV3Schema` is not included"))
	}
	return judged, errs
}
