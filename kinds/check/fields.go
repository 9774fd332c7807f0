// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"reflect"
	"slices"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/objectmeta"
)

// TemplateMetadata judges the metadata of a template that another object is made from: only labels and annotations.
func TemplateMetadata(meta metav1.ObjectMeta, path *field.Path) field.ErrorList {
	errs := objectmeta.ValidateAnnotations(meta.Annotations, path.Child("annotations"))
	errs = append(errs, objectmeta.ValidateLabels(meta.Labels, path.Child("labels"))...)
	return append(errs, OnlyFields(meta, "cannot be set", path, "Annotations", "Labels")...)
}

// OnlyFields refuses that any field of a struct but the allowed ones is set. It is a list of what is allowed, so that a
// field that is added to the struct is refused until somebody has thought about it.
func OnlyFields(value any, detail string, at *field.Path, allowed ...string) field.ErrorList {
	var errs field.ErrorList
	v := reflect.ValueOf(value)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if slices.Contains(allowed, name) || v.Field(i).IsZero() {
			continue
		}
		first, size := utf8.DecodeRuneInString(name)
		errs = append(errs, field.Forbidden(at.Child(string(unicode.ToLower(first))+name[size:]), detail))
	}
	return errs
}
