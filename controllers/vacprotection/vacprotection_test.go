// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package vacprotection_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// TestClassStaysUntilItsClaimGoes has one class that a claim names and one that nobody does.
func TestClassStaysUntilItsClaimGoes(t *testing.T) {
	c := testcluster.New(t).Admin()
	classes, claims := client.Of[*storagev1.VolumeAttributesClass](c), client.Of[*corev1.PersistentVolumeClaim](c)
	for _, name := range []string{"named", "unnamed"} {
		_, err := classes.Create(t.Context(), &storagev1.VolumeAttributesClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, DriverName: "driver.example.com", Parameters: map[string]string{"iops": "1"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	class := "named"
	_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"},
		Spec: corev1.PersistentVolumeClaimSpec{
			VolumeAttributesClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"named", "unnamed"} {
		if err := classes.Delete(t.Context(), "", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	left := testcluster.Await(t, c, "", limit, func(all []*storagev1.VolumeAttributesClass) bool { return len(all) == 1 })
	if left[0].Name != "named" || left[0].DeletionTimestamp == nil {
		t.Fatalf("%s is left, want the named class, being deleted", left[0].Name)
	}
	if err := claims.Delete(t.Context(), "default", "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", limit, func(all []*storagev1.VolumeAttributesClass) bool { return len(all) == 0 })
}
