// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiextensions

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The items of a list with keys that are neither a schema nor a list of them are shown as upstream shows them.
func TestListMapWithoutSchema(t *testing.T) {
	list := "map"
	errs := validateListMap(&apiextensionsv1.JSONSchemaProps{XListType: &list, Items: &apiextensionsv1.JSONSchemaPropsOrArray{}}, field.NewPath("s"))
	const want = "s.items: Invalid value: {}: must only have a single schema if x-kubernetes-list-type is map"
	if len(errs) != 1 || errs[0].Error() != want {
		t.Errorf("validateListMap = %v, want %s", errs, want)
	}
}
