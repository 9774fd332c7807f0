// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package garbage_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// harbour has owners that a definition describes.
type harbour struct {
	*world
	definitions client.Resource[*apiextensionsv1.CustomResourceDefinition]
}

func version(name string, served, storage bool) apiextensionsv1.CustomResourceDefinitionVersion {
	return apiextensionsv1.CustomResourceDefinitionVersion{
		Name: name, Served: served, Storage: storage,
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
	}
}

// define makes the definition of boats, in one version.
func (h *harbour) define(first string) {
	h.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "boats.sea.example"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "sea.example", Scope: apiextensionsv1.NamespaceScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "boats", Singular: "boat", Kind: "Boat", ListKind: "BoatList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version(first, true, true)},
		},
	}
	if _, err := h.definitions.Create(h.Context(), crd); err != nil {
		h.Fatal(err)
	}
	testcluster.Await(h, h.c, "", patience, func(all []*apiextensionsv1.CustomResourceDefinition) bool {
		for _, crd := range all {
			for _, c := range crd.Status.Conditions {
				if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
					return true
				}
			}
		}
		return false
	})
}

// move serves boats at another version only.
func (h *harbour) move(from, to string) {
	h.Helper()
	crd, err := h.definitions.Get(h.Context(), "", "boats.sea.example")
	if err != nil {
		h.Fatal(err)
	}
	crd = crd.DeepCopy()
	crd.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{version(from, false, false), version(to, true, true)}
	if _, err := h.definitions.Update(h.Context(), crd); err != nil {
		h.Fatal(err)
	}
}

// launch makes a boat, at a version that is served now or soon.
func (h *harbour) launch(version, name string) metav1.OwnerReference {
	h.Helper()
	boat := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "sea.example/" + version, "kind": "Boat", "metadata": map[string]any{"namespace": "default", "name": name},
	}}
	testcluster.AwaitServed(h, h.boats(version), patience)
	made, err := h.boats(version).Create(h.Context(), boat)
	if err != nil {
		h.Fatal(err)
	}
	return metav1.OwnerReference{APIVersion: "sea.example/" + version, Kind: "Boat", Name: name, UID: made.GetUID()}
}

func (h *harbour) boats(version string) client.Resource[*unstructured.Unstructured] {
	gvr := schema.GroupVersionResource{Group: "sea.example", Version: version, Resource: "boats"}
	return client.At(h.c, gvr, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
}

func (h *harbour) sink(version, name string) {
	h.Helper()
	if err := h.boats(version).Delete(h.Context(), "default", name, metav1.DeleteOptions{}); err != nil {
		h.Fatal(err)
	}
}

// load makes a dependent.
func (h *harbour) load(name string, owner metav1.OwnerReference) {
	h.Helper()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, Labels: map[string]string{"test": "yes"}, OwnerReferences: []metav1.OwnerReference{owner},
	}}
	if _, err := h.maps.Create(h.Context(), m); err != nil {
		h.Fatal(err)
	}
}

// TestDependentsOutliveTheVersionOfTheirOwners moves the definition of their owners to another version.
func TestDependentsOutliveTheVersionOfTheirOwners(t *testing.T) {
	w := begin(t)
	h := &harbour{world: w, definitions: client.Of[*apiextensionsv1.CustomResourceDefinition](w.c)}
	h.define("v1beta1")
	old := h.launch("v1beta1", "old")
	h.load("a-old", old)
	stray := func(name string, uid types.UID) { // of an owner that never was: it goes
		h.load(name, metav1.OwnerReference{APIVersion: old.APIVersion, Kind: "Boat", Name: "old", UID: uid})
	}
	stray("b-stray", "11111111-2222-3333-4444-555555555555")
	w.await("a-old") // boats are followed
	h.move("v1beta1", "v1")
	recent := h.launch("v1", "recent")
	h.load("c-recent", recent)
	stray("d-stray", "11111111-2222-3333-4444-666666666666")
	w.await("a-old", "c-recent")
	stray("e-stray", "11111111-2222-3333-4444-777777777777") // all before it is examined by now
	h.load("f-old", old)
	w.await("a-old", "c-recent", "f-old")
	h.sink("v1", "recent")
	w.await("a-old", "f-old")
	h.sink("v1", "old")
	w.await()
}
