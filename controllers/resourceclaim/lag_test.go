// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resourceclaim_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/resourceclaim"
	"kogge.dev/kogge/testcluster"
)

// TestSuccessorIsSeenLate reserves a claim for a pod while the loop still sees the one before of the same name.
func TestSuccessorIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "pods", resourceclaim.NewRelease)
		pods, claims := client.Of[*corev1.Pod](c), client.Of[*resourcev1.ResourceClaim](c)
		run := func() *corev1.Pod {
			t.Helper()
			pod, err := pods.Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "c:1"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return pod
		}
		run()
		time.Sleep(time.Second)
		lag.Events(time.Minute)
		if err := pods.Delete(t.Context(), "default", "p", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		pod := run()
		claim, err := claims.Create(t.Context(), &resourcev1.ResourceClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gpu", Finalizers: []string{resourcev1.Finalizer}},
			Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
				Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"},
			}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		next := claim.DeepCopy()
		next.Status.Allocation = &resourcev1.AllocationResult{}
		next.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: pod.UID}}
		if _, err := claims.UpdateStatus(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if claim, err = claims.Get(t.Context(), "default", "gpu"); err != nil {
			t.Fatal(err)
		}
		if n := len(claim.Status.ReservedFor); n != 1 {
			t.Errorf("the claim is reserved for %d pods, want 1", n)
		}
	})
}
