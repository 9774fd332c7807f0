// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package garbage_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const patience = 20 * time.Second

// world holds ConfigMaps that own each other.
type world struct {
	*testing.T
	c    *client.Client
	maps client.Resource[*corev1.ConfigMap]
}

func begin(t *testing.T) *world {
	t.Helper()
	c := testcluster.New(t).Admin()
	return &world{T: t, c: c, maps: client.Of[*corev1.ConfigMap](c)}
}

func (w *world) make(name string, owners ...*corev1.ConfigMap) *corev1.ConfigMap {
	w.Helper()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"test": "yes"}}}
	block := true
	for _, o := range owners {
		m.OwnerReferences = append(m.OwnerReferences, metav1.OwnerReference{
			APIVersion: "v1", Kind: "ConfigMap", Name: o.Name, UID: o.UID, BlockOwnerDeletion: &block,
		})
	}
	made, err := w.maps.Create(w.Context(), m)
	if err != nil {
		w.Fatal(err)
	}
	return made
}

func (w *world) delete(name string, how metav1.DeletionPropagation) {
	w.Helper()
	if err := w.maps.Delete(w.Context(), "default", name, metav1.DeleteOptions{PropagationPolicy: &how}); err != nil {
		w.Fatal(err)
	}
}

// await waits until exactly these are left.
func (w *world) await(want ...string) []*corev1.ConfigMap {
	w.Helper()
	return testcluster.Await(w, w.c, "default", patience, func(all []*corev1.ConfigMap) bool {
		var names []string
		for _, m := range all {
			if m.Labels["test"] == "yes" {
				names = append(names, m.Name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ") == strings.Join(want, " ")
	})
}

// TestDependentsGo deletes in the background a chain, and what has another owner stays.
func TestDependentsGo(t *testing.T) {
	w := begin(t)
	root, other := w.make("a-root"), w.make("b-other")
	child := w.make("c-child", root)
	w.make("d-grandchild", child)
	w.make("e-shared", root, other)
	w.delete("a-root", metav1.DeletePropagationBackground)
	for _, m := range w.await("b-other", "e-shared") {
		if m.Name == "e-shared" && len(m.OwnerReferences) > 1 {
			testcluster.Await(t, w.c, "default", patience, func(all []*corev1.ConfigMap) bool {
				return slices.ContainsFunc(all, func(m *corev1.ConfigMap) bool { return m.Name == "e-shared" && len(m.OwnerReferences) == 1 })
			})
		}
	}
}

// TestOrphansStay deletes an owner alone.
func TestOrphansStay(t *testing.T) {
	w := begin(t)
	w.make("b-child", w.make("a-root"))
	w.delete("a-root", metav1.DeletePropagationOrphan)
	for _, m := range w.await("b-child") {
		if m.Name == "b-child" && len(m.OwnerReferences) > 0 {
			t.Errorf("owners of the orphan: %+v", m.OwnerReferences)
		}
	}
}

// TestForeground keeps an owner until a dependent that holds it is gone.
func TestForeground(t *testing.T) {
	w := begin(t)
	child := w.make("b-child", w.make("a-root"))
	held := child.DeepCopy()
	held.Finalizers = []string{"example.com/hold"}
	if _, err := w.maps.Update(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	w.delete("a-root", metav1.DeletePropagationForeground)
	all := testcluster.Await(t, w.c, "default", patience, func(all []*corev1.ConfigMap) bool {
		return slices.ContainsFunc(all, func(m *corev1.ConfigMap) bool { return m.Name == "b-child" && m.DeletionTimestamp != nil })
	})
	if !slices.ContainsFunc(all, func(m *corev1.ConfigMap) bool { return m.Name == "a-root" && m.DeletionTimestamp != nil }) {
		t.Error("the owner went before its dependent")
	}
	if _, err := w.maps.Patch(t.Context(), "default", "b-child", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)); err != nil {
		t.Fatal(err)
	}
	w.await()
}

// TestAbsentOwner makes an object whose owner never was.
func TestAbsentOwner(t *testing.T) {
	w := begin(t)
	w.make("a-stray", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "nobody", UID: "11111111-2222-3333-4444-555555555555"}})
	w.await()
	if _, err := w.maps.Get(t.Context(), "default", "a-stray"); !apierrors.IsNotFound(err) {
		t.Errorf("stray object: %v, want not found", err)
	}
}
