// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package replicaset_test

import (
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/replicaset"
	"kogge.dev/kogge/testcluster"
)

// living returns the pods that are not being deleted.
func living(t *testing.T, c *client.Client) []*corev1.Pod {
	t.Helper()
	list, err := client.Of[*corev1.Pod](c).List(t.Context(), "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []*corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			out = append(out, pod)
		}
	}
	return out
}

// TestAdoptionIsNotSeen has a pod adopted and deleted, which a new list shows at once.
func TestAdoptionIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "pods", replicaset.New)
		makeSet(t, c, 0)
		time.Sleep(time.Second)
		lag.Events(10 * time.Second)
		orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", Labels: labels()}, Spec: spec()}
		if _, err := client.Of[*corev1.Pod](c).Create(t.Context(), orphan); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if left := living(t, c); len(left) > 0 {
			t.Fatalf("%d pods are left, want none", len(left))
		}
		lag.Hide(true)
		lag.Hide(false)
		lag.Events(0)
		time.Sleep(time.Second)
		scale(t, c, "2")
		time.Sleep(time.Minute)
		if n := len(living(t, c)); n != 2 {
			t.Errorf("%d pods after scaling, want 2", n)
		}
	})
}

// TestPodIsSeenWhenItGoes has one of two new pods deleted before the loop sees it.
func TestPodIsSeenWhenItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "pods", replicaset.New)
		makeSet(t, c, 0)
		time.Sleep(time.Second)
		lag.Hide(true)
		scale(t, c, "2")
		time.Sleep(time.Second)
		made := living(t, c)
		if len(made) != 2 {
			t.Fatalf("%d pods after scaling, want 2", len(made))
		}
		pods := client.Of[*corev1.Pod](c)
		if _, err := pods.Patch(t.Context(), "default", made[0].Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/hold"]}}`)); err != nil {
			t.Fatal(err)
		}
		if err := pods.Delete(t.Context(), "default", made[0].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		lag.Hide(false)
		time.Sleep(time.Minute)
		if n := len(living(t, c)); n != 2 {
			t.Errorf("%d pods live after one was deleted, want 2", n)
		}
		sets, err := client.Of[*appsv1.ReplicaSet](c).Get(t.Context(), "default", "web")
		if err != nil {
			t.Fatal(err)
		}
		if n := sets.Status.Replicas; n != 2 {
			t.Errorf("%d replicas in the status, want 2", n)
		}
	})
}
