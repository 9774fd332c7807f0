// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package garbage_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
	"kogge.dev/kogge/testcluster/behind"
)

// TestDependentsOfRemoteObjectsGo has an object of another API server own one of ours.
func TestDependentsOfRemoteObjectsGo(t *testing.T) {
	front := testcluster.New(t)
	c := front.Admin()
	behind.New(t, front)
	ships := behind.Client(c)
	ship, err := ships.Create(t.Context(), behind.Ship("default", "cog"))
	if err != nil {
		t.Fatal(err)
	}
	maps := client.Of[*corev1.ConfigMap](c)
	cargo := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "cargo", Labels: map[string]string{"test": "yes"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "sea.example/v1", Kind: "Ship", Name: "cog", UID: ship.GetUID()}},
	}}
	if _, err := maps.Create(t.Context(), cargo); err != nil {
		t.Fatal(err)
	}
	stray := cargo.DeepCopy()
	stray.Name, stray.OwnerReferences[0].UID = "stray", "11111111-2222-3333-4444-555555555555"
	if _, err := maps.Create(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, c: c, maps: maps}
	w.await("cargo")
	if err := ships.Delete(t.Context(), "default", "cog", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.await()
}
