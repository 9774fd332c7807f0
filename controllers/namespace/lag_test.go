// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package namespace_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/namespace"
	"kogge.dev/kogge/testcluster"
)

// TestDefinitionIsSeenLate deletes a namespace with an object whose definition the loop has not heard of.
func TestDefinitionIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "customresourcedefinitions", namespace.New)
		lag.Events(time.Minute)
		spaces := client.Of[*corev1.Namespace](c)
		if _, err := spaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "old"}}); err != nil {
			t.Fatal(err)
		}
		boats := defineBoats(t, c)
		_, err := boats.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "sea.example/v1", "kind": "Boat", "metadata": map[string]any{"namespace": "old", "name": "cog"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := spaces.Delete(t.Context(), "", "old", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if _, err := spaces.Get(t.Context(), "", "old"); err != nil {
			t.Errorf("the namespace, before its objects are known: %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := spaces.Get(t.Context(), "", "old"); !apierrors.IsNotFound(err) {
			t.Errorf("the namespace at last: %v, want not found", err)
		}
		if _, err := boats.Get(t.Context(), "old", "cog"); !apierrors.IsNotFound(err) {
			t.Errorf("its object at last: %v, want not found", err)
		}
	})
}

func defineBoats(t *testing.T, c *client.Client) client.Resource[*unstructured.Unstructured] {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "boats.sea.example"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "sea.example", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "boats", Singular: "boat", Kind: "Boat", ListKind: "BoatList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
			}},
		},
	}
	if _, err := client.Of[*apiextensionsv1.CustomResourceDefinition](c).Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	gvr := schema.GroupVersionResource{Group: "sea.example", Version: "v1", Resource: "boats"}
	boats := client.At(c, gvr, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
	testcluster.AwaitServed(t, boats, patience)
	return boats
}
