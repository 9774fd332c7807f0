// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package attachdetach_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/attachdetach"
	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/testcluster"
)

// TestAttachmentsAreSeenLate has two nodes want a volume that one of them may have, before the loop sees what it asked for first. The attachment
// then goes, without ever being seen.
func TestAttachmentsAreSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "volumeattachments", attachdetach.New)
		lag.Hide(true)
		one := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		claim := create(t, c, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data", Annotations: map[string]string{volumes.BindCompleted: "yes"}},
			Spec: corev1.PersistentVolumeClaimSpec{
				VolumeName: "pv", StorageClassName: new(""), AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: one},
			},
		})
		create(t, c, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
			AccessModes: modes, Capacity: one, ClaimRef: &corev1.ObjectReference{Namespace: "default", Name: "data", UID: claim.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disk.example.com", VolumeHandle: "vol-1"}},
		}})
		create(t, c, node("n1"))
		create(t, c, node("n2"))
		create(t, c, pod("first", "n1"))
		create(t, c, pod("second", "n2"))
		time.Sleep(time.Second)
		api := client.Of[*storagev1.VolumeAttachment](c)
		list, err := api.List(t.Context(), "", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 {
			t.Fatalf("%d attachments of one volume, want 1", len(list.Items))
		}
		first := list.Items[0]
		remove(t, c, map[string]string{"n1": "first", "n2": "second"}[first.Spec.NodeName])
		time.Sleep(time.Second) // nobody wants it there any more
		if err := api.Delete(t.Context(), "", first.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if list, err = api.List(t.Context(), "", metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].Spec.NodeName == first.Spec.NodeName {
			t.Errorf("attachments at last: %+v, want one to the other node", list.Items)
		}
	})
}
