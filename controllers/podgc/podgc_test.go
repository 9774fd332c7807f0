// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podgc_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/podgc"
	"kogge.dev/kogge/testcluster"
)

type world struct {
	*testing.T
	c    *client.Client
	pods client.Resource[*corev1.Pod]
}

func begin(t *testing.T) *world {
	t.Helper()
	c, _ := testcluster.RunAlone(t, "", podgc.New)
	return &world{T: t, c: c, pods: client.Of[*corev1.Pod](c)}
}

func (w *world) makeNode(taints ...corev1.Taint) {
	w.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{Taints: taints}}
	if _, err := client.Of[*corev1.Node](w.c).Create(w.Context(), node); err != nil {
		w.Fatal(err)
	}
}

// makePod makes a pod that is on a node already, or on none.
func (w *world) makePod(node string) {
	w.Helper()
	_, err := w.pods.Create(w.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "c:1"}}},
	})
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) has() bool {
	w.Helper()
	_, err := w.pods.Get(w.Context(), "default", "p")
	if err != nil && !apierrors.IsNotFound(err) {
		w.Fatal(err)
	}
	return err == nil
}

// TestPodsOfMissingNodes removes pods of a node that went, be it before they were bound to it, after a quarantine.
func TestPodsOfMissingNodes(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := begin(t)
			w.makeNode()
			if late {
				w.makePod("")
			} else {
				w.makePod("n1")
			}
			time.Sleep(time.Minute)
			if err := client.Of[*corev1.Node](w.c).Delete(t.Context(), "", "n1", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if late {
				time.Sleep(time.Minute)
				binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
				if _, err := w.pods.Post(t.Context(), "default", "p", "binding", binding); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(20 * time.Second)
			if !w.has() {
				t.Error("the pod went before its node was gone for long")
			}
			time.Sleep(time.Minute)
			if w.has() {
				t.Error("the pod stays on a node that is gone")
			}
		})
	}
}

// TestPodsOfNodesOutOfService deletes a pod whose node was declared out of service long before.
func TestPodsOfNodesOutOfService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.makeNode(corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
		w.makePod("n1")
		time.Sleep(time.Minute)
		if err := w.pods.Delete(t.Context(), "default", "p", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if !w.has() {
			t.Fatal("the pod went without grace")
		}
		time.Sleep(10 * time.Second)
		if w.has() {
			t.Error("the pod waits for a kubelet that is out of service")
		}
	})
}
