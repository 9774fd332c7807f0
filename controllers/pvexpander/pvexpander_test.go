// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package pvexpander_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const (
	limit = 10 * time.Second
	note  = "volume.alpha.kubernetes.io/pre-resize-capacity"
)

// TestGrowth plays the parts of resizer and node.
func TestGrowth(t *testing.T) {
	c := testcluster.New(t).Admin()
	volumes, claims := client.Of[*corev1.PersistentVolume](c), client.Of[*corev1.PersistentVolumeClaim](c)
	one, modes := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	yes, class := true, "grows"
	if _, err := client.Of[*storagev1.StorageClass](c).Create(t.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "disk.example.com", AllowVolumeExpansion: &yes,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := volumes.Create(t.Context(), &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
		StorageClassName: class, AccessModes: modes, Capacity: one,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.example.com", VolumeHandle: "v"}},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: one},
		},
	}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", limit, func(all []*corev1.PersistentVolumeClaim) bool { return all[0].Status.Phase == corev1.ClaimBound })
	if _, err := claims.Patch(t.Context(), "default", "data", types.MergePatchType, []byte(`{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`)); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Event) bool {
		for _, e := range all {
			if e.Reason == "ExternalExpanding" && e.Message == "waiting for an external controller to expand this PVC" {
				return true
			}
		}
		return false
	})
	grown := []byte(`{"metadata":{"annotations":{"` + note + `":"1Gi"}},"spec":{"capacity":{"storage":"2Gi"}}}`)
	if _, err := volumes.Patch(t.Context(), "", "pv", types.MergePatchType, grown); err != nil {
		t.Fatal(err)
	}
	if _, err := claims.Patch(t.Context(), "default", "data", types.MergePatchType, []byte(`{"status":{"capacity":{"storage":"2Gi"}}}`), "status"); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", limit, func(all []*corev1.PersistentVolume) bool { return all[0].Annotations[note] == "" })
}
