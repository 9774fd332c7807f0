// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package servicecidr_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestRangeInUseStays adds a range, uses an address of it, and deletes it: it goes only after the Service.
func TestRangeInUseStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t).Admin()
		ranges, services := client.Of[*networkingv1.ServiceCIDR](c), client.Of[*corev1.Service](c)
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		ready := func() *metav1.Condition {
			t.Helper()
			r, err := ranges.Get(t.Context(), "", "more")
			if err != nil {
				t.Fatal(err)
			}
			return apimeta.FindStatusCondition(r.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
		}
		_, err := ranges.Create(t.Context(), &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.200.0.0/24"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		if is := ready(); is == nil || is.Status != metav1.ConditionTrue {
			t.Fatalf("condition of a new range: %+v", is)
		}
		_, err = services.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.200.0.7", Ports: []corev1.ServicePort{{Port: 80}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		if err := ranges.Delete(t.Context(), "", "more", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(30 * time.Second)
		if is := ready(); is == nil || is.Status != metav1.ConditionFalse || is.Reason != networkingv1.ServiceCIDRReasonTerminating {
			t.Errorf("condition of a range that is in use and deleted: %+v", is)
		}
		if err := services.Delete(t.Context(), "default", "web", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(30 * time.Second)
		if _, err := ranges.Get(t.Context(), "", "more"); !apierrors.IsNotFound(err) {
			t.Errorf("range that nothing uses: %v, want not found", err)
		}
	})
}
