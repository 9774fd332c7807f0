// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// TestSelectableFieldsNeedASchemaBesideThem has the texts of upstream, where what all versions share is one field of the spec.
func TestSelectableFieldsNeedASchemaBesideThem(t *testing.T) {
	version := func(other, selectable string) apiextensionsv1.CustomResourceDefinitionVersion {
		v := apiextensionsv1.CustomResourceDefinitionVersion{Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
			Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"a": {Type: "string"}, other: {Type: "string"}},
		}}}
		if selectable != "" {
			v.SelectableFields = []apiextensionsv1.SelectableField{{JSONPath: selectable}}
		}
		return v
	}
	const own, top = "may only be set when `version.schema.openAPIV3Schema` is not included", "may only be set when validations.schema is included"
	for name, c := range map[string]struct {
		versions []apiextensionsv1.CustomResourceDefinitionVersion
		want     []string
	}{
		"all is shared":           {[]apiextensionsv1.CustomResourceDefinitionVersion{version("b", ".a"), version("b", ".a")}, nil},
		"all differs":             {[]apiextensionsv1.CustomResourceDefinitionVersion{version("b", ".a"), version("c", ".c")}, nil},
		"one selects, one schema": {[]apiextensionsv1.CustomResourceDefinitionVersion{version("b", ".a"), version("b", "")}, []string{"spec.versions[0].selectableFields: Invalid value: \"\": " + own}},
		"two ways, one schema": {[]apiextensionsv1.CustomResourceDefinitionVersion{version("b", ".a"), version("b", ".b")}, []string{
			"spec.versions[0].selectableFields: Invalid value: \"\": " + own, "spec.versions[1].selectableFields: Invalid value: \"\": " + own,
		}},
		"one way, two schemas": {[]apiextensionsv1.CustomResourceDefinitionVersion{version("b", ".a"), version("c", ".a")}, []string{"spec.selectableFields: Invalid value: \"\": " + top}},
	} {
		spec := &apiextensionsv1.CustomResourceDefinitionSpec{Versions: c.versions}
		var got []string
		_, errs := validateSpec(spec, rulesFor(nil), field.NewPath("spec"))
		for _, err := range errs {
			if err.Field == "spec.selectableFields" || err.Field == "spec.versions[0].selectableFields" || err.Field == "spec.versions[1].selectableFields" {
				got = append(got, err.Error())
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %q, want %q", name, got[i], c.want[i])
			}
		}
	}
}
