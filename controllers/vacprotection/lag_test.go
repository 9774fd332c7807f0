// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package vacprotection_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/vacprotection"
	"kogge.dev/kogge/testcluster"
)

// TestUserIsNotSeen has the only user of a class come and go without being seen, while the class is deleted.
func TestUserIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "persistentvolumeclaims", vacprotection.New)
		classes, claims := client.Of[*storagev1.VolumeAttributesClass](c), client.Of[*corev1.PersistentVolumeClaim](c)
		lag.Hide(true)
		class := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, DriverName: "disk.example.com", Parameters: map[string]string{"iops": "9"}}
		if _, err := classes.Create(t.Context(), class); err != nil {
			t.Fatal(err)
		}
		_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				VolumeAttributesClassName: new("gold"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := classes.Delete(t.Context(), "", "gold", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := classes.Get(t.Context(), "", "gold"); err != nil {
			t.Errorf("the class while it is used: %v", err)
		}
		if err := claims.Delete(t.Context(), "default", "data", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := claims.Patch(t.Context(), "default", "data", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)); err != nil {
			t.Fatal(err)
		}
		lag.Hide(false)
		time.Sleep(time.Minute)
		if _, err := classes.Get(t.Context(), "", "gold"); !apierrors.IsNotFound(err) {
			t.Errorf("the class after its user went: %v, want not found", err)
		}
	})
}
