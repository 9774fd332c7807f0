// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package ttl_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestAnnotationFollowsTheSize grows a cluster over a hundred nodes and shrinks it to where the steps overlap, and below.
func TestAnnotationFollowsTheSize(t *testing.T) {
	c := testcluster.New(t).Admin()
	nodes := client.Of[*corev1.Node](c)
	await := func(count int, want string) {
		t.Helper()
		testcluster.Await(t, c, "", 10*time.Second, func(all []*corev1.Node) bool {
			for _, n := range all {
				if n.Annotations["node.alpha.kubernetes.io/ttl"] != want {
					return false
				}
			}
			return len(all) == count
		})
	}
	for i := range 101 {
		if _, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)}}); err != nil {
			t.Fatal(err)
		}
		if i == 99 {
			await(100, "0")
		}
	}
	await(101, "15")
	for i := range 12 {
		if err := nodes.Delete(t.Context(), "", fmt.Sprintf("n%d", i), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if i == 10 {
			await(90, "15")
		}
	}
	await(89, "0")
}
