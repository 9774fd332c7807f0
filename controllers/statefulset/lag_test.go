// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package statefulset_test

import (
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/statefulset"
	"kogge.dev/kogge/testcluster"
)

// withClaim gives each pod a claim that goes with the set and with scaling.
func withClaim(s *appsv1.StatefulSet) {
	s.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
	}
	s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}}
}

// TestClaimsAreSeenLate makes claims that the loop does not see for an hour: they go with the set, or with the pod that is scaled away.
func TestClaimsAreSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "persistentvolumeclaims", statefulset.New)
		testcluster.RunPods(t, c, nil)
		lag.Events(time.Hour)
		set(t, c, 2, withClaim)
		time.Sleep(time.Minute)
		claims := client.Of[*corev1.PersistentVolumeClaim](c)
		owner := func(name string) string {
			t.Helper()
			claim, err := claims.Get(t.Context(), "default", name)
			if err != nil {
				t.Fatal(err)
			}
			if len(claim.OwnerReferences) != 1 {
				return ""
			}
			return claim.OwnerReferences[0].Kind
		}
		for _, name := range []string{"data-web-0", "data-web-1"} {
			if got := owner(name); got != "StatefulSet" {
				t.Errorf("claim %s is owned by %q, want the set", name, got)
			}
		}
		patch(t, c, `{"spec":{"replicas":1}}`)
		time.Sleep(time.Minute)
		if got := owner("data-web-1"); got != "Pod" {
			t.Errorf("the claim of a pod that was scaled away is owned by %q, want the pod", got)
		}
	})
}

// TestLostClaimIsMadeAnew deletes the claim of a pod that waits for it.
func TestLostClaimIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := testcluster.RunAlone(t, "", statefulset.New)
		set(t, c, 1, withClaim)
		time.Sleep(time.Minute)
		claims := client.Of[*corev1.PersistentVolumeClaim](c)
		lost, err := claims.Get(t.Context(), "default", "data-web-0")
		if err != nil {
			t.Fatal(err)
		}
		if err := claims.Delete(t.Context(), "default", lost.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := claims.Patch(t.Context(), "default", lost.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		found, err := claims.Get(t.Context(), "default", lost.Name)
		if err != nil {
			t.Fatal(err)
		}
		if found.UID == lost.UID {
			t.Error("the claim has not gone")
		}
	})
}

// TestRevisionsAreSeenLate changes the template before the loop sees the first revision: a pod that is lost below the partition comes back
// as it was.
func TestRevisionsAreSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "controllerrevisions", statefulset.New)
		testcluster.RunPods(t, c, nil)
		lag.Events(time.Hour)
		set(t, c, 2, nil)
		time.Sleep(time.Minute)
		revisions, err := client.Of[*appsv1.ControllerRevision](c).List(t.Context(), "default", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(revisions.Items); n != 1 {
			t.Errorf("%d revisions of one template, want 1", n)
		}
		patch(t, c, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}},"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`)
		time.Sleep(time.Minute)
		pods := client.Of[*corev1.Pod](c)
		if err := pods.Delete(t.Context(), "default", "web-0", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		list, err := pods.List(t.Context(), "default", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := names(list.Items), "web-0=web:1 web-1=web:1"; got != want {
			t.Errorf("pods = %s, want %s", got, want)
		}
	})
}
