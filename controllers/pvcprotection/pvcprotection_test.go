// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvcprotection_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// TestClaimStaysUntilItsPodEnds has one claim that a pod uses and one that none does.
func TestClaimStaysUntilItsPodEnds(t *testing.T) {
	c := testcluster.New(t).Admin()
	claims, podAPI := client.Of[*corev1.PersistentVolumeClaim](c), client.Of[*corev1.Pod](c)
	testcluster.Await(t, c, "default", limit, func(all []*corev1.ServiceAccount) bool { return len(all) > 0 })
	if _, err := client.Of[*corev1.Node](c).Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	class := ""
	for _, name := range []string{"used", "unused"} {
		_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := podAPI.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "user"},
		Spec: corev1.PodSpec{
			NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "used"},
			}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"used", "unused"} {
		if err := claims.Delete(t.Context(), "default", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	left := testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool { return len(all) == 1 })
	if left[0].Name != "used" || left[0].DeletionTimestamp == nil {
		t.Fatalf("%s is left, want the used claim, being deleted", left[0].Name)
	}
	// A pod that has ended holds nothing, though its object is still there.
	if _, err := podAPI.Patch(t.Context(), "default", "user", types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`), "status"); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool { return len(all) == 0 })
}
