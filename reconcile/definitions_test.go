// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"kogge.dev/kogge/reconcile"
)

func TestServedVersion(t *testing.T) {
	type versions = []apiextensionsv1.CustomResourceDefinitionVersion
	old, served, stored := "v1alpha1", "v1beta1", "v1"
	all := versions{{Name: old}, {Name: served, Served: true}, {Name: stored, Served: true, Storage: true}}
	for _, test := range []struct {
		name            string
		versions        versions
		preferred, want string
	}{
		{"the stored one", all, "", stored},
		{"the preferred one", all, served, served},
		{"not a preferred one that is not served", all, old, stored},
		{"not a preferred one that is not there", all, "v2", stored},
		{"one that is not stored", versions{{Name: old, Storage: true}, {Name: served, Served: true}}, "", served},
		{"none", versions{{Name: old, Storage: true}}, old, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			crd := &apiextensionsv1.CustomResourceDefinition{Spec: apiextensionsv1.CustomResourceDefinitionSpec{Versions: test.versions}}
			if got := reconcile.ServedVersion(crd, test.preferred); got != "" {
				t.Errorf("ServedVersion of a definition that is not established = %q, want none", got)
			}
			crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{
				Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue,
			}}
			if got := reconcile.ServedVersion(crd, test.preferred); got != test.want {
				t.Errorf("ServedVersion = %q, want %q", got, test.want)
			}
		})
	}
}
