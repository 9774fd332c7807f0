// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resourcequota_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

func version(name string, served, storage bool) apiextensionsv1.CustomResourceDefinitionVersion {
	return apiextensionsv1.CustomResourceDefinitionVersion{
		Name: name, Served: served, Storage: storage,
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
	}
}

// TestCountFollowsTheServedVersion counts custom resources whose first version is not the one that they are stored in, and moves them to
// another.
func TestCountFollowsTheServedVersion(t *testing.T) {
	c := testcluster.New(t).Admin()
	definitions := client.Of[*apiextensionsv1.CustomResourceDefinition](c)
	crd, err := definitions.Create(t.Context(), &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "boats.sea.example"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "sea.example", Scope: apiextensionsv1.NamespaceScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "boats", Singular: "boat", Kind: "Boat", ListKind: "BoatList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version("v1beta1", true, false), version("v1", false, true)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, c)
	boats := func(version string) client.Resource[*unstructured.Unstructured] {
		gvr := schema.GroupVersionResource{Group: "sea.example", Version: version, Resource: "boats"}
		return client.At(c, gvr, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
	}
	for _, name := range []string{"a", "b", "c"} {
		boat := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "sea.example/v1beta1", "kind": "Boat", "metadata": map[string]any{"namespace": "default", "name": name},
		}}
		if _, err := boats("v1beta1").Create(t.Context(), boat); err != nil {
			t.Fatal(err)
		}
	}
	const count = corev1.ResourceName("count/boats.sea.example")
	if _, err := client.Of[*corev1.ResourceQuota](c).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "fleet"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{count: resource.MustParse("5")}},
	}); err != nil {
		t.Fatal(err)
	}
	counted := func(want int64) {
		t.Helper()
		testcluster.Await(t, c, "default", 10*time.Second, func(all []*corev1.ResourceQuota) bool {
			return len(all) == 1 && all[0].Status.Used.Name(count, resource.DecimalSI).Value() == want
		})
	}
	sink := func(version, name string) {
		t.Helper()
		if err := boats(version).Delete(t.Context(), "default", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	counted(3)
	sink("v1beta1", "a")
	counted(2)
	if crd, err = definitions.Get(t.Context(), "", crd.Name); err != nil {
		t.Fatal(err)
	}
	crd = crd.DeepCopy()
	crd.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{version("v1beta1", false, false), version("v1", true, true)}
	if _, err := definitions.Update(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	testcluster.AwaitServed(t, boats("v1"), 10*time.Second)
	sink("v1", "b")
	counted(1)
}
