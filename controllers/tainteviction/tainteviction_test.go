// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package tainteviction_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// world is a cluster with the node n1, whose kubelet is silent unless beat is called, and the node live, which is always heard of.
type world struct {
	*testing.T
	c     *client.Client
	nodes client.Resource[*corev1.Node]
	pods  client.Resource[*corev1.Pod]
}

func begin(t *testing.T) *world {
	t.Helper()
	c := testcluster.New(t).Admin()
	w := &world{T: t, c: c, nodes: client.Of[*corev1.Node](c), pods: client.Of[*corev1.Pod](c)}
	w.join("n1")
	w.join("live")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			w.renew(ctx, "live") //nolint:errcheck // the next comes soon
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

// join makes a node that is ready.
func (w *world) join(name string) {
	w.Helper()
	node, err := w.nodes.Create(w.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if err != nil {
		w.Fatal(err)
	}
	next := node.DeepCopy()
	next.ResourceVersion = ""
	next.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}
	if _, err := w.nodes.UpdateStatus(w.Context(), next); err != nil {
		w.Fatal(err)
	}
}

// renew renews a node's lease.
func (w *world) renew(ctx context.Context, node string) error {
	leases := client.Of[*coordinationv1.Lease](w.c)
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node}, Spec: coordinationv1.LeaseSpec{RenewTime: &now},
	}
	_, err := leases.Create(ctx, lease)
	if apierrors.IsAlreadyExists(err) {
		patch := `{"spec":{"renewTime":"` + now.UTC().Format("2006-01-02T15:04:05.000000Z07:00") + `"}}`
		_, err = leases.Patch(ctx, corev1.NamespaceNodeLease, node, types.MergePatchType, []byte(patch))
	}
	return err
}

// run makes a pod on the node that is ready.
func (w *world) run(name string, tolerations ...corev1.Toleration) {
	w.Helper()
	pod, err := w.pods.Create(w.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{NodeName: "n1", Tolerations: tolerations, Containers: []corev1.Container{{Name: "c", Image: "c:1"}}},
	})
	if err != nil {
		w.Fatal(err)
	}
	next := pod.DeepCopy()
	next.ResourceVersion, next.Status.Phase = "", corev1.PodRunning
	next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	if _, err := w.pods.UpdateStatus(w.Context(), next); err != nil {
		w.Fatal(err)
	}
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// going reports whether a pod is being deleted, or gone.
func (w *world) going(name string) bool {
	w.Helper()
	pod, err := w.pods.Get(w.Context(), "default", name)
	if apierrors.IsNotFound(err) {
		return true
	}
	if err != nil {
		w.Fatal(err)
	}
	return pod.DeletionTimestamp != nil
}

func (w *world) taint(body string) {
	w.Helper()
	if _, err := w.nodes.Patch(w.Context(), "", "n1", types.MergePatchType, []byte(`{"spec":{"taints":`+body+`}}`)); err != nil {
		w.Fatal(err)
	}
}

// beat keeps the node alive for a while by its lease alone.
func (w *world) beat(d time.Duration) {
	w.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); w.pass(10 * time.Second) {
		if err := w.renew(w.Context(), "n1"); err != nil {
			w.Fatal(err)
		}
	}
}

func key(name string, seconds *int64) corev1.Toleration {
	return corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}
}

// TestNoExecuteTaint taints a node under pods that tolerate it not at all, for a minute, and for ever.
func TestNoExecuteTaint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		minute := int64(60)
		w.run("none")
		w.run("minute", key("dedicated", &minute))
		w.run("spared", key("dedicated", &minute))
		w.run("ever", key("dedicated", nil))
		w.pass(time.Second)
		w.taint(`[{"key":"dedicated","effect":"NoExecute"}]`)
		w.pass(time.Second)
		if !w.going("none") || w.going("minute") || w.going("ever") {
			t.Fatalf("at once: none %v, minute %v, ever %v", w.going("none"), w.going("minute"), w.going("ever"))
		}
		pod, err := w.pods.Get(t.Context(), "default", "none")
		if err != nil {
			t.Fatal(err)
		}
		said := false
		for _, c := range pod.Status.Conditions {
			said = said || (c.Type == corev1.DisruptionTarget && c.Reason == "DeletionByTaintManager" && c.Status == corev1.ConditionTrue)
		}
		if !said {
			t.Errorf("conditions of the evicted pod: %+v", pod.Status.Conditions)
		}
		w.beat(30 * time.Second)
		w.taint(`[]`)
		w.pass(time.Second)
		w.beat(20 * time.Second)
		w.taint(`[{"key":"dedicated","effect":"NoExecute"}]`)
		w.beat(50 * time.Second)
		if w.going("minute") {
			t.Error("evicted though the taint was away meanwhile")
		}
		w.beat(20 * time.Second)
		if !w.going("minute") || w.going("ever") {
			t.Errorf("after a minute: minute %v, ever %v", w.going("minute"), w.going("ever"))
		}
		events, err := client.Of[*corev1.Event](w.c).List(t.Context(), "default", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var messages []string
		for _, e := range events.Items {
			if e.Reason == "TaintManagerEviction" {
				messages = append(messages, e.Message)
			}
		}
		all := strings.Join(messages, "; ")
		for _, want := range []string{"Marking for deletion Pod default/none", "Cancelling deletion of Pod default/minute"} {
			if !strings.Contains(all, want) {
				t.Errorf("no event %q in %s", want, all)
			}
		}
	})
}

// TestSilentNode follows a node whose kubelet falls silent: it is unknown after 50 s, and its pods go 5 minutes later.
func TestSilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.run("web")
		w.beat(5 * time.Minute)
		ready := func() corev1.NodeCondition {
			t.Helper()
			node, err := w.nodes.Get(t.Context(), "", "n1")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range node.Status.Conditions {
				if c.Type == corev1.NodeReady {
					return c
				}
			}
			return corev1.NodeCondition{}
		}
		if c := ready(); c.Status != corev1.ConditionTrue {
			t.Fatalf("while its lease is renewed the node is %+v", c)
		}
		w.pass(45 * time.Second) // 10 s have passed since the last beat
		if c := ready(); c.Status != corev1.ConditionUnknown || c.Reason != "NodeStatusUnknown" || c.Message != "Kubelet stopped posting node status." {
			t.Errorf("silent node is %+v", c)
		}
		node, err := w.nodes.Get(t.Context(), "", "n1")
		if err != nil {
			t.Fatal(err)
		}
		effects := map[corev1.TaintEffect]bool{}
		for _, taint := range node.Spec.Taints {
			if taint.Key == corev1.TaintNodeUnreachable {
				effects[taint.Effect] = true
			}
		}
		if !effects[corev1.TaintEffectNoSchedule] || !effects[corev1.TaintEffectNoExecute] {
			t.Errorf("taints of the silent node: %+v", node.Spec.Taints)
		}
		pod, err := w.pods.Get(t.Context(), "default", "web")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status != corev1.ConditionFalse {
				t.Error("pod of a silent node is ready")
			}
		}
		w.pass(290 * time.Second)
		if w.going("web") {
			t.Error("pod went too early")
		}
		w.pass(20 * time.Second)
		if !w.going("web") {
			t.Error("pod did not go")
		}
		// The kubelet comes back.
		next := node.DeepCopy()
		next.ResourceVersion = ""
		for i := range next.Status.Conditions {
			c := &next.Status.Conditions[i]
			c.Status, c.LastHeartbeatTime, c.Reason = corev1.ConditionFalse, metav1.Now(), "Back"
			if c.Type == corev1.NodeReady {
				c.Status = corev1.ConditionTrue
			}
		}
		if _, err := w.nodes.UpdateStatus(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		if node, err = w.nodes.Get(t.Context(), "", "n1"); err != nil || len(node.Spec.Taints) > 0 {
			t.Errorf("taints of the node that is back: %+v, %v", node.Spec.Taints, err)
		}
	})
}

// TestAllNodesSilent loses all nodes at once: that is more likely the network's fault, so no pods are driven off until some
// nodes are back, and then only from those that stay away.
func TestAllNodesSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t).Admin()
		w := &world{T: t, c: c, nodes: client.Of[*corev1.Node](c), pods: client.Of[*corev1.Pod](c)}
		w.join("n1")
		w.join("n2")
		w.run("web")
		executes := func() bool {
			t.Helper()
			node, err := w.nodes.Get(t.Context(), "", "n1")
			if err != nil {
				t.Fatal(err)
			}
			for _, taint := range node.Spec.Taints {
				if taint.Effect == corev1.TaintEffectNoExecute {
					return true
				}
			}
			return false
		}
		w.pass(20 * time.Minute)
		if executes() || w.going("web") {
			t.Fatalf("with all nodes silent: NoExecute %v, pod going %v", executes(), w.going("web"))
		}
		patch := `{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"` + time.Now().UTC().Format(time.RFC3339) + `"}]}}`
		for range 8 {
			if _, err := w.nodes.Patch(t.Context(), "", "n2", types.StrategicMergePatchType, []byte(patch), "status"); err != nil {
				t.Fatal(err)
			}
			if err := w.renew(t.Context(), "n2"); err != nil {
				t.Fatal(err)
			}
			w.pass(10 * time.Second)
		}
		if !executes() {
			t.Error("the node that stayed away is not tainted")
		}
	})
}
