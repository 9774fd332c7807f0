// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvcprotection_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/pvcprotection"
	"kogge.dev/kogge/testcluster"
)

// TestUserIsNotSeen has the only user of a claim come and go without being seen, while the claim is deleted.
func TestUserIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "pods", pvcprotection.New)
		claims, pods := client.Of[*corev1.PersistentVolumeClaim](c), client.Of[*corev1.Pod](c)
		lag.Hide(true)
		_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "user"},
			Spec: corev1.PodSpec{
				NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "c:1"}},
				Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
				}}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := claims.Delete(t.Context(), "default", "data", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := claims.Get(t.Context(), "default", "data"); err != nil {
			t.Errorf("the claim while it is used: %v", err)
		}
		if err := pods.Delete(t.Context(), "default", "user", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		lag.Hide(false)
		time.Sleep(time.Minute)
		if _, err := claims.Get(t.Context(), "default", "data"); !apierrors.IsNotFound(err) {
			t.Errorf("the claim after its user went: %v, want not found", err)
		}
	})
}
