// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package ephemeralvolume_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

func template() corev1.PersistentVolumeClaimSpec {
	class := ""
	return corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Volumes: []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
				VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
					ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"kind": "scratch"}}, Spec: template(),
				},
			}}}},
		},
	}
}

// TestClaimComesWithItsPod also meets a claim of the same name that belongs to somebody else.
func TestClaimComesWithItsPod(t *testing.T) {
	c := testcluster.New(t).Admin()
	testcluster.Await(t, c, "default", limit, func(all []*corev1.ServiceAccount) bool { return len(all) > 0 })
	foreign := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b-scratch"}, Spec: template()}
	if _, err := client.Of[*corev1.PersistentVolumeClaim](c).Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	owner, err := client.Of[*corev1.Pod](c).Create(t.Context(), pod("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Of[*corev1.Pod](c).Create(t.Context(), pod("b")); err != nil {
		t.Fatal(err)
	}
	all := testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool { return len(all) == 2 })
	for _, claim := range all {
		ours := claim.Name == "a-scratch"
		if metav1.IsControlledBy(claim, owner) != ours || (claim.Labels["kind"] == "scratch") != ours {
			t.Errorf("claim %s: owners %v, labels %v", claim.Name, claim.OwnerReferences, claim.Labels)
		}
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Event) bool {
		for _, e := range all {
			if e.InvolvedObject.Name == "b" && e.Reason == "FailedBinding" && strings.Contains(e.Message, "was not created for pod default/b") {
				return true
			}
		}
		return false
	})
}
