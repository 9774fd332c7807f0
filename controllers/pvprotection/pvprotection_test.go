// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvprotection_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// TestVolumeStaysUntilItsClaimGoes has one volume that is bound and one that is free.
func TestVolumeStaysUntilItsClaimGoes(t *testing.T) {
	c := testcluster.New(t).Admin()
	volumes, claims := client.Of[*corev1.PersistentVolume](c), client.Of[*corev1.PersistentVolumeClaim](c)
	one, modes := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	for _, class := range []string{"wanted", "unwanted"} {
		_, err := volumes.Create(t.Context(), &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: modes, Capacity: one,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	class := "wanted"
	_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: one},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", limit, func(all []*corev1.PersistentVolumeClaim) bool { return all[0].Status.Phase == corev1.ClaimBound })
	for _, name := range []string{"wanted", "unwanted"} {
		if err := volumes.Delete(t.Context(), "", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	left := testcluster.Await(t, c, "", limit, func(all []*corev1.PersistentVolume) bool { return len(all) == 1 })
	if left[0].Name != "wanted" || left[0].DeletionTimestamp == nil {
		t.Fatalf("%s is left, want the bound volume, being deleted", left[0].Name)
	}
	if err := claims.Delete(t.Context(), "default", "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", limit, func(all []*corev1.PersistentVolume) bool { return len(all) == 0 })
}
