// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"fmt"
	"reflect"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// rules say which demands hold: a stored definition from before a demand existed may go on breaking it.
type rules struct {
	schemas    bool // every version has a schema
	structural bool // schemas are structural
	types      bool // types are known ones
	reviews    bool // a conversion webhook speaks a version that we speak
}

// rulesFor returns the rules for a definition that replaces old, or is new when old is nil.
func rulesFor(old *apiextensionsv1.CustomResourceDefinition) rules {
	r := rules{schemas: true, structural: true, types: true, reviews: true}
	if old == nil {
		return r
	}
	for i := range old.Spec.Versions {
		v := &old.Spec.Versions[i]
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			r.schemas = false
			continue
		}
		if s, err := Structural(v.Schema.OpenAPIV3Schema); err != nil || len(structuralschema.ValidateStructural(nil, s)) > 0 {
			r.structural = false
		}
	}
	if c := old.Spec.Conversion; c != nil && c.Webhook != nil && len(c.Webhook.ConversionReviewVersions) > 0 {
		r.reviews = slices.ContainsFunc(c.Webhook.ConversionReviewVersions, func(v string) bool { return slices.Contains(reviewVersions(), v) })
	}
	return r
}

// rootFields are those that a schema's root may use when the status subresource is on.
func rootFields() []string {
	return []string{
		"Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength", "MinLength",
		"Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties", "ExternalDocs", "Example",
		"XPreserveUnknownFields", "XValidations",
	}
}

// validateSchema returns the schema in structural form, too, if nothing is wrong with it.
func validateSchema(schema *apiextensionsv1.JSONSchemaProps, status, preserve bool, r rules, path *field.Path) (*Schema, field.ErrorList) {
	var errs field.ErrorList
	if status {
		errs = append(errs, validateRoot(schema, path)...)
	}
	if schema.Nullable {
		errs = append(errs, field.Forbidden(path.Child("openAPIV3Schema.nullable"), "nullable cannot be true at the root"))
	}
	path = path.Child("openAPIV3Schema")
	demanded := r.structural || !preserve
	structural, broken := Structural(schema)
	var unfit field.ErrorList
	if broken == nil {
		unfit = structuralschema.ValidateStructural(path, structural)
	}
	if demanded {
		errs = append(errs, unfit...)
	}
	errs = append(errs, walk{types: r.types}.schema(schema, path)...)
	if demanded && len(errs) == 0 && broken != nil {
		errs = append(errs, field.Invalid(path, "", broken.Error()))
	}
	if len(errs) > 0 || len(unfit) > 0 || broken != nil {
		return nil, errs
	}
	return &Schema{Path: path, Structural: structural}, nil
}

func validateRoot(schema *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	value := reflect.ValueOf(schema).Elem()
	for i := range value.NumField() {
		name := value.Type().Field(i).Name
		if value.Field(i).IsZero() {
			continue
		}
		if name == "Type" && schema.Type != "object" {
			return field.ErrorList{field.Invalid(path.Child("openAPIV3Schema.type"), schema.Type,
				`only "object" is allowed as the type at the root of the schema if the status subresource is enabled`)}
		}
		if !slices.Contains(rootFields(), name) {
			return field.ErrorList{field.Invalid(path.Child("openAPIV3Schema"), *schema,
				fmt.Sprintf("only %v fields are allowed at the root of the schema if the status subresource is enabled", rootFields()))}
		}
	}
	return nil
}
