// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"iter"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// walk visits a schema and all schemas in it. Its fields say what the place of the schema allows.
type walk struct {
	types bool // types must be known ones
	// inMeta is set below metadata, kind and apiVersion; noDefault then says why defaults are refused, if they are.
	inMeta    bool
	noDefault string
	inner     bool // below the root
}

func (w walk) schema(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := w.unsupported(s, path)
	if s.UniqueItems {
		errs = append(errs, field.Forbidden(path.Child("uniqueItems"), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"))
	}
	if a := s.AdditionalProperties; a != nil && len(s.Properties) > 0 && (!a.Allows || a.Schema != nil) {
		errs = append(errs, field.Forbidden(path.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
	}
	errs = append(errs, w.children(s, path)...)
	errs = append(errs, validateExtensions(s, path)...)
	errs = append(errs, validateListMap(s, path)...)
	return append(errs, validateExpressions(s, path.Child("x-kubernetes-validations"))...)
}

// children visits the schemas inside a schema, in a fixed order.
func (w walk) children(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	below := w
	below.inner = true
	if s.AdditionalProperties != nil {
		sub := below
		if w.inMeta {
			sub.noDefault = "inside additionalProperties applying to object metadata"
		}
		errs = append(errs, sub.schema(s.AdditionalProperties.Schema, path.Child("additionalProperties"))...)
	}
	for name, property := range byName(s.Properties) {
		sub := below
		if (!w.inner || s.XEmbeddedResource) && (name == "metadata" || name == "kind" || name == "apiVersion") {
			sub.inMeta = true
			if !w.inner {
				sub.noDefault = "in top-level " + name
			}
		}
		errs = append(errs, sub.schema(property, path.Child("properties").Key(name))...)
	}
	errs = append(errs, below.schema(s.Not, path.Child("not"))...)
	for _, list := range []struct {
		name  string
		items []apiextensionsv1.JSONSchemaProps
	}{{"allOf", s.AllOf}, {"oneOf", s.OneOf}, {"anyOf", s.AnyOf}} {
		for i := range list.items {
			errs = append(errs, below.schema(&list.items[i], path.Child(list.name).Index(i))...)
		}
	}
	if s.Items != nil {
		errs = append(errs, below.schema(s.Items.Schema, path.Child("items"))...)
		for i := range s.Items.JSONSchemas {
			errs = append(errs, below.schema(&s.Items.JSONSchemas[i], path.Child("items").Index(i))...)
		}
	}
	return errs
}

// byName iterates over named schemas in the order of their names. All come in one place, which must not be kept: a schema is half a kilobyte, and large ones
// have thousands.
func byName(named map[string]apiextensionsv1.JSONSchemaProps) iter.Seq2[string, *apiextensionsv1.JSONSchemaProps] {
	return func(yield func(string, *apiextensionsv1.JSONSchemaProps) bool) {
		if len(named) == 0 {
			return
		}
		place := new(apiextensionsv1.JSONSchemaProps)
		for _, name := range slices.Sorted(maps.Keys(named)) {
			*place = named[name]
			if !yield(name, place) {
				return
			}
		}
	}
}

// unsupported refuses what JSON schema has and this API has not.
func (w walk) unsupported(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	types := []string{"array", "boolean", "integer", "number", "object", "string"}
	var errs field.ErrorList
	if w.types && s.Type != "" && !slices.Contains(types, s.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), s.Type, types))
	}
	if s.Default != nil && w.noDefault != "" {
		errs = append(errs, field.Forbidden(path.Child("default"), "must not be set "+w.noDefault))
	}
	for _, u := range []struct {
		name string
		set  bool
	}{
		{"id", s.ID != ""},
		{"additionalItems", s.AdditionalItems != nil},
		{"patternProperties", len(s.PatternProperties) > 0},
		{"definitions", len(s.Definitions) > 0},
		{"dependencies", s.Dependencies != nil},
		{"$ref", s.Ref != nil},
	} {
		if u.set {
			errs = append(errs, field.Forbidden(path.Child(u.name), u.name+" is not supported"))
		}
	}
	if s.Type == "null" {
		errs = append(errs, field.Forbidden(path.Child("type"), "type cannot be set to null, use nullable as an alternative"))
	}
	if s.Items != nil && len(s.Items.JSONSchemas) > 0 {
		errs = append(errs, field.Forbidden(path.Child("items"), "items must be a schema object and not an array"))
	}
	if w.inMeta && s.XEmbeddedResource {
		errs = append(errs, field.Forbidden(path.Child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta"))
	}
	return errs
}

// requireType judges the type that an extension needs.
func requireType(have, want, extension string, path *field.Path) field.ErrorList {
	detail := "must be " + want + " if " + extension + " is specified"
	switch have {
	case want:
		return nil
	case "":
		return field.ErrorList{field.Required(path, detail)}
	}
	return field.ErrorList{field.Invalid(path, have, detail)}
}

func validateExtensions(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	const mapType, listType, keys = "x-kubernetes-map-type", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"
	var errs field.ErrorList
	if p := s.XPreserveUnknownFields; p != nil && !*p {
		errs = append(errs, field.Invalid(path.Child("x-kubernetes-preserve-unknown-fields"), *p, "must be true or undefined"))
	}
	if t := s.XMapType; t != nil {
		errs = append(errs, requireType(s.Type, "object", mapType, path.Child("type"))...)
		if *t != "atomic" && *t != "granular" {
			errs = append(errs, field.NotSupported(path.Child(mapType), *t, []string{"atomic", "granular"}))
		}
	}
	list := ptr.Deref(s.XListType, "")
	if s.XListType != nil {
		found := requireType(s.Type, "array", listType, path.Child("type"))
		errs = append(errs, found...)
		if len(found) == 0 && list == "set" && s.Items != nil && s.Items.Schema != nil {
			errs = append(errs, validateSetItems(s.Items.Schema, path.Child("items"))...)
		}
		if !slices.Contains([]string{"atomic", "set", "map"}, list) {
			errs = append(errs, field.NotSupported(path.Child(listType), list, []string{"atomic", "set", "map"}))
		}
	}
	if len(s.XListMapKeys) > 0 && list != "map" {
		const detail = "must be map if x-kubernetes-list-map-keys is non-empty"
		if s.XListType == nil {
			return append(errs, field.Required(path.Child(listType), detail))
		}
		errs = append(errs, field.Invalid(path.Child(listType), list, detail))
	}
	if list == "map" && len(s.XListMapKeys) == 0 {
		errs = append(errs, field.Required(path.Child(keys), "must not be empty if x-kubernetes-list-type is map"))
	}
	return errs
}

// validateSetItems requires items that can be compared as a whole.
func validateSetItems(item *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	const detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
	switch {
	case item.Type == "array" && item.XListType != nil && *item.XListType != "atomic":
		return field.ErrorList{field.Invalid(path.Child("x-kubernetes-list-type"), item.XListType, detail)}
	case item.Type == "object" && ptr.Deref(item.XMapType, "") != "atomic":
		return field.ErrorList{field.Invalid(path.Child("x-kubernetes-map-type"), item.XListType, detail)}
	}
	return nil
}

// validateListMap judges the items of lists whose entries have keys, and that entries of sets and maps can't be null.
func validateListMap(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	list := ptr.Deref(s.XListType, "")
	items := path.Child("items")
	var errs field.ErrorList
	if list == "map" {
		switch {
		case s.Items == nil:
			return field.ErrorList{field.Required(items, "must have a schema if x-kubernetes-list-type is map")}
		case s.Items.Schema == nil:
			return field.ErrorList{field.Invalid(items, struct{}{}, "must only have a single schema if x-kubernetes-list-type is map")}
		case s.Items.Schema.Type != "object":
			errs = append(errs, field.Invalid(items.Child("type"), s.Items.Schema.Type, "must be object if parent array's x-kubernetes-list-type is map"))
		default:
			errs = append(errs, validateMapKeys(s, path)...)
		}
	}
	if s.Items == nil || s.Items.Schema == nil || list != "map" && list != "set" {
		return errs
	}
	item := s.Items.Schema
	if item.Nullable {
		errs = append(errs, field.Forbidden(items.Child("nullable"), "cannot be nullable when x-kubernetes-list-type is "+list))
	}
	if list == "set" {
		return errs
	}
	for _, key := range s.XListMapKeys {
		property, found := item.Properties[key]
		if !found {
			continue
		}
		at := items.Child("properties").Key(key)
		if !slices.Contains(item.Required, key) && property.Default == nil {
			errs = append(errs, field.Required(at.Child("default"),
				"this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
		if property.Nullable {
			errs = append(errs, field.Forbidden(at.Child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"))
		}
	}
	return errs
}

func validateMapKeys(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	at := path.Child("x-kubernetes-list-map-keys")
	var errs field.ErrorList
	for i, key := range s.XListMapKeys {
		property, found := s.Items.Schema.Properties[key]
		switch {
		case !found:
			errs = append(errs, field.Invalid(at, s.XListMapKeys, "entries must all be names of item properties"))
		case property.Type == "array" || property.Type == "object":
			errs = append(errs, field.Invalid(path.Child("items", "properties").Key(key).Child("type"), s.Items.Schema.Type,
				"must be a scalar type if parent array's x-kubernetes-list-type is map"))
		}
		if slices.Contains(s.XListMapKeys[:i], key) {
			errs = append(errs, field.Invalid(at, s.XListMapKeys, "must not contain duplicate entries"))
		}
	}
	return errs
}

// validateExpressions judges validation rules but for the expressions themselves.
func validateExpressions(s *apiextensionsv1.JSONSchemaProps, path *field.Path) field.ErrorList {
	reasons := []apiextensionsv1.FieldValueErrorReason{
		apiextensionsv1.FieldValueDuplicate, apiextensionsv1.FieldValueForbidden, apiextensionsv1.FieldValueInvalid, apiextensionsv1.FieldValueRequired,
	}
	var errs field.ErrorList
	for i, r := range s.XValidations {
		at := path.Index(i)
		rule, message := strings.TrimSpace(r.Rule), strings.TrimSpace(r.Message)
		switch {
		case rule == "":
			errs = append(errs, field.Required(at.Child("rule"), "rule is not specified"))
		case r.Message != "" && message == "":
			errs = append(errs, field.Invalid(at.Child("message"), r.Message, "must be non-empty if specified"))
		case strings.ContainsAny(message, "\n\r"):
			errs = append(errs, field.Invalid(at.Child("message"), r.Message, "must not contain line breaks"))
		case strings.ContainsAny(rule, "\n\r") && message == "":
			errs = append(errs, field.Required(at.Child("message"), "message must be specified if rule contains line breaks"))
		}
		if r.MessageExpression != "" && strings.TrimSpace(r.MessageExpression) == "" {
			errs = append(errs, field.Required(at.Child("messageExpression"), "messageExpression must be non-empty if specified"))
		}
		if r.Reason != nil && !slices.Contains(reasons, *r.Reason) {
			errs = append(errs, field.NotSupported(at.Child("reason"), *r.Reason, reasons))
		}
		if r.FieldPath != "" && strings.TrimSpace(r.FieldPath) == "" {
			errs = append(errs, field.Invalid(at.Child("fieldPath"), r.FieldPath, "must be non-empty if specified"))
		}
		if strings.ContainsAny(r.FieldPath, "\n\r") {
			errs = append(errs, field.Invalid(at.Child("fieldPath"), r.FieldPath, "must not contain line breaks"))
		}
	}
	return errs
}
