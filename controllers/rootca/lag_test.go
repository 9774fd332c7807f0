// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rootca_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/rootca"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/testcluster"
)

// TestBundleIsNotSeen deletes the bundle of a namespace before the loop has ever seen it.
func TestBundleIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "configmaps", func(scope reconcile.Scope) *reconcile.Loop { return rootca.New(scope, []byte("bundle")) })
		maps := client.Of[*corev1.ConfigMap](c)
		lag.Hide(true)
		if _, err := client.Of[*corev1.Namespace](c).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "new"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := maps.Delete(t.Context(), "new", "kube-root-ca.crt", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		lag.Hide(false)
		time.Sleep(time.Minute)
		if _, err := maps.Get(t.Context(), "new", "kube-root-ca.crt"); err != nil {
			t.Errorf("the bundle after it was deleted: %v", err)
		}
	})
}
