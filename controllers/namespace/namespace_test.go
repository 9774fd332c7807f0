// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package namespace_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const patience = 20 * time.Second

// TestNamespaceIsEmptied deletes a namespace with a Secret and a ConfigMap that is held: it stays, says why, and goes
// once the ConfigMap is let go.
func TestNamespaceIsEmptied(t *testing.T) {
	c := testcluster.New(t).Admin()
	spaces, maps := client.Of[*corev1.Namespace](c), client.Of[*corev1.ConfigMap](c)
	if _, err := spaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "old"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Of[*corev1.Secret](c).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "old", Name: "s"}}); err != nil {
		t.Fatal(err)
	}
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "old", Name: "held", Finalizers: []string{"example.com/hold"}}}
	if _, err := maps.Create(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	if err := spaces.Delete(t.Context(), "", "old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", patience, func(all []*corev1.Namespace) bool {
		for _, ns := range all {
			if ns.Name != "old" || ns.Status.Phase != corev1.NamespaceTerminating {
				continue
			}
			said := map[corev1.NamespaceConditionType]string{}
			for _, condition := range ns.Status.Conditions {
				if condition.Status == corev1.ConditionTrue {
					said[condition.Type] = condition.Reason + ": " + condition.Message
				}
			}
			return said[corev1.NamespaceFinalizersRemaining] ==
				"SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
		}
		return false
	})
	testcluster.Await(t, c, "old", patience, func(all []*corev1.Secret) bool { return len(all) == 0 })
	if _, err := maps.Patch(t.Context(), "old", "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", patience, func(all []*corev1.Namespace) bool {
		for _, ns := range all {
			if ns.Name == "old" {
				return false
			}
		}
		return true
	})
}
