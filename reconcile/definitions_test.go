// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// TestOutline takes what is large out of a definition, and leaves the definition as it is.
func TestOutline(t *testing.T) {
	names := apiextensionsv1.CustomResourceDefinitionNames{Plural: "tabs", Kind: "Tab", ShortNames: []string{"t"}}
	whole := func() *apiextensionsv1.CustomResourceDefinition {
		return &apiextensionsv1.CustomResourceDefinition{
			ObjectMeta: metav1.ObjectMeta{Name: "tabs.example.com", UID: "u", ResourceVersion: "7", Generation: 2, Annotations: map[string]string{
				corev1.LastAppliedConfigAnnotation: "all of it once more",
			}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{
				Group: "example.com", Scope: apiextensionsv1.NamespaceScoped, Names: names, Conversion: &apiextensionsv1.CustomResourceConversion{Strategy: "None"},
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
					Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{},
					Subresources:             &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
					AdditionalPrinterColumns: []apiextensionsv1.CustomResourceColumnDefinition{{Name: "Age"}},
				}},
			},
			Status: apiextensionsv1.CustomResourceDefinitionStatus{AcceptedNames: names, Conditions: []apiextensionsv1.CustomResourceDefinitionCondition{
				{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue, Message: "the initial names have been accepted"},
			}},
		}
	}
	want := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "tabs.example.com", UID: "u", ResourceVersion: "7", Generation: 2},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped, Names: names,
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			}},
		},
		Status: apiextensionsv1.CustomResourceDefinitionStatus{AcceptedNames: names, Conditions: []apiextensionsv1.CustomResourceDefinitionCondition{
			{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue},
		}},
	}
	crd := whole()
	if d := cmp.Diff(want, reconcile.Outline(crd)); d != "" {
		t.Errorf("outline (-want +got):\n%s", d)
	}
	if d := cmp.Diff(whole(), crd); d != "" {
		t.Errorf("the definition was changed (-before +after):\n%s", d)
	}
}

// TestOutlineIsFewObjects makes an outline that most definitions have: it stays, and each object of it would stay in another place.
func TestOutlineIsFewObjects(t *testing.T) {
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "tabs.example.com", UID: "u", ResourceVersion: "7"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "tabs", Kind: "Tab", ShortNames: []string{"t"}, Categories: []string{"all"}},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{
				{Name: "v1", Served: true, Storage: true, Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}},
				{Name: "v1beta1"},
			},
		},
		Status: apiextensionsv1.CustomResourceDefinitionStatus{Conditions: []apiextensionsv1.CustomResourceDefinitionCondition{
			{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue}, {Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue},
		}},
	}
	crd.Status.AcceptedNames = crd.Spec.Names
	var out *apiextensionsv1.CustomResourceDefinition
	if got := testing.AllocsPerRun(100, func() { out = reconcile.Outline(crd) }); got > 3 {
		t.Errorf("an outline is %v objects, want 3: itself, its texts and its lists of names", got)
	}
	if unsafe.StringData(out.Name) == unsafe.StringData(crd.Name) || out.Spec.Versions[0].Subresources == crd.Spec.Versions[0].Subresources {
		t.Error("the outline has parts of the definition")
	}
	crd.Spec.Names.ShortNames[0] = "other"
	if got := out.Spec.Names; got.ShortNames[0] != "t" || got.Categories[0] != "all" {
		t.Errorf("names = %v, want those that the definition had", got)
	}
}
