// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serviceaccount_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/serviceaccount"
	"kogge.dev/kogge/testcluster"
)

// TestAccountIsNotSeen deletes the account of a namespace before the loop has ever seen it.
func TestAccountIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "serviceaccounts", serviceaccount.New)
		accounts := client.Of[*corev1.ServiceAccount](c)
		lag.Hide(true)
		if _, err := client.Of[*corev1.Namespace](c).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "new"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := accounts.Delete(t.Context(), "new", "default", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		lag.Hide(false)
		time.Sleep(time.Minute)
		if _, err := accounts.Get(t.Context(), "new", "default"); err != nil {
			t.Errorf("the account after it was deleted: %v", err)
		}
	})
}
