// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nodelifecycle_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/nodelifecycle"
	"kogge.dev/kogge/testcluster"
)

// TestPodIsSeenLate has a ready pod change shortly before its node stops being ready.
func TestPodIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "pods", nodelifecycle.New)
		nodes, pods := client.Of[*corev1.Node](c), client.Of[*corev1.Pod](c)
		node, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		if err != nil {
			t.Fatal(err)
		}
		report := func(status corev1.ConditionStatus) {
			t.Helper()
			next := node.DeepCopy()
			next.ResourceVersion = ""
			next.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastHeartbeatTime: metav1.Now()}}
			if _, err := nodes.UpdateStatus(t.Context(), next); err != nil {
				t.Fatal(err)
			}
		}
		report(corev1.ConditionTrue)
		pod, err := pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
			Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "c:1"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		next := pod.DeepCopy()
		next.Status.Phase = corev1.PodRunning
		next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		if _, err := pods.UpdateStatus(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		lag.Events(5 * time.Second)
		if _, err := pods.Patch(t.Context(), "default", "p", types.MergePatchType, []byte(`{"metadata":{"labels":{"new":"yes"}}}`)); err != nil {
			t.Fatal(err)
		}
		report(corev1.ConditionFalse)
		time.Sleep(20 * time.Second)
		if pod, err = pods.Get(t.Context(), "default", "p"); err != nil {
			t.Fatal(err)
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status != corev1.ConditionFalse {
				t.Errorf("the pod of a node that isn't ready has condition %+v", condition)
			}
		}
	})
}
