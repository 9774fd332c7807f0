// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package namespace_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
	"kogge.dev/kogge/testcluster/behind"
)

// TestNamespaceWaitsForRemoteObjects deletes a namespace with an object of another API server while that is away.
func TestNamespaceWaitsForRemoteObjects(t *testing.T) {
	front := testcluster.New(t)
	c := front.Admin()
	server := behind.New(t, front)
	for _, c := range []*client.Client{c, server.Admin} {
		if _, err := client.Of[*corev1.Namespace](c).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "old"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := behind.Client(c).Create(t.Context(), behind.Ship("old", "cog")); err != nil {
		t.Fatal(err)
	}
	server.Away(true)
	if err := client.Of[*corev1.Namespace](c).Delete(t.Context(), "", "old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", patience, func(all []*corev1.Namespace) bool {
		for _, ns := range all {
			for _, condition := range ns.Status.Conditions {
				if ns.Name == "old" && condition.Type == corev1.NamespaceDeletionDiscoveryFailure && condition.Status == corev1.ConditionTrue {
					return condition.Reason == "DiscoveryFailed" &&
						strings.HasPrefix(condition.Message, "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: sea.example/v1: ")
				}
			}
		}
		return false
	})
	server.Away(false)
	testcluster.Await(t, c, "", patience, func(all []*corev1.Namespace) bool {
		return !slices.ContainsFunc(all, func(ns *corev1.Namespace) bool { return ns.Name == "old" })
	})
	left, err := behind.Client(server.Admin).List(t.Context(), "", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(left.Items) > 0 {
		t.Errorf("%d objects are left behind", len(left.Items))
	}
}
