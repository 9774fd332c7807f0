// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resourcequota_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestQuotaCountsWhatCameWithIt makes namespaces with an object and a quota right after it. Nobody charged the object, nor the quota, which
// counts itself: the count must find both however late its views are.
func TestQuotaCountsWhatCameWithIt(t *testing.T) {
	c := testcluster.New(t).Admin()
	for i := range 50 {
		meta := metav1.ObjectMeta{Namespace: fmt.Sprintf("n%d", i), Name: "x"}
		if _, err := client.Of[*corev1.Namespace](c).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: meta.Namespace}}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Of[*corev1.Secret](c).Create(t.Context(), &corev1.Secret{ObjectMeta: meta}); err != nil {
			t.Fatal(err)
		}
		q := &corev1.ResourceQuota{ObjectMeta: meta, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
			corev1.ResourceSecrets: resource.MustParse("5"), corev1.ResourceQuotas: resource.MustParse("5"),
		}}}
		if _, err := client.Of[*corev1.ResourceQuota](c).Create(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		testcluster.Await(t, c, meta.Namespace, 10*time.Second, func(all []*corev1.ResourceQuota) bool {
			if len(all) != 1 {
				return false
			}
			used := all[0].Status.Used
			return used.Name(corev1.ResourceSecrets, resource.DecimalSI).Value() == 1 && used.Name(corev1.ResourceQuotas, resource.DecimalSI).Value() == 1
		})
	}
}

// TestLimitsInStatusFollowTheSpec writes limits into a status, which only the controller's own are to stand in.
func TestLimitsInStatusFollowTheSpec(t *testing.T) {
	c := testcluster.New(t).Admin()
	quotas := client.Of[*corev1.ResourceQuota](c)
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "x"}
	hard := func(text string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceSecrets: resource.MustParse(text)}
	}
	if _, err := quotas.Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: meta, Spec: corev1.ResourceQuotaSpec{Hard: hard("5")}}); err != nil {
		t.Fatal(err)
	}
	settled := func() {
		t.Helper()
		testcluster.Await(t, c, meta.Namespace, 10*time.Second, func(all []*corev1.ResourceQuota) bool {
			return len(all) == 1 && all[0].Status.Hard.Name(corev1.ResourceSecrets, resource.DecimalSI).Value() == 5
		})
	}
	settled()
	for range 10 { // the controller may look at the quota just then for another reason
		patch := []byte(`{"status":{"hard":{"secrets":"9"}}}`)
		if _, err := quotas.Patch(t.Context(), meta.Namespace, meta.Name, types.MergePatchType, patch, "status"); err != nil {
			t.Fatal(err)
		}
		settled()
	}
}
