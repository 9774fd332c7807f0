// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package daemonset_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const patience = 20 * time.Second

func addNode(t *testing.T, c *client.Client, name string) {
	t.Helper()
	room := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10"), corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi")}
	nodes := client.Of[*corev1.Node](c)
	node, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}})
	if err != nil {
		t.Fatal(err)
	}
	next := node.DeepCopy()
	next.ResourceVersion, next.Status.Allocatable, next.Status.Capacity = "", room, room
	next.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	if _, err := nodes.UpdateStatus(t.Context(), next); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, change func(*appsv1.DaemonSetSpec)) *client.Client {
	t.Helper()
	c := testcluster.New(t).Admin()
	for _, name := range []string{"n1", "n2"} {
		addNode(t, c, name)
	}
	testcluster.RunPods(t, c, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	labels := map[string]string{"app": "agent"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "agent:1"}}},
			},
		},
	}
	if change != nil {
		change(&ds.Spec)
	}
	if _, err := client.Of[*appsv1.DaemonSet](c).Create(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	return c
}

func patch(t *testing.T, c *client.Client, body string) {
	t.Helper()
	_, err := client.Of[*appsv1.DaemonSet](c).Patch(t.Context(), "default", "agent", types.StrategicMergePatchType, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for pods by node and image, and a status that says so for n nodes.
func await(t *testing.T, c *client.Client, n int32, want string) []*corev1.Pod {
	t.Helper()
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.DaemonSet) bool {
		s := all[0].Status
		return s.ObservedGeneration == all[0].Generation && s.DesiredNumberScheduled == n && s.CurrentNumberScheduled == n &&
			s.NumberReady == n && s.NumberAvailable == n && s.NumberUnavailable == 0 && s.NumberMisscheduled == 0
	})
	return testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool {
		var out []string
		for _, p := range all {
			out = append(out, fmt.Sprintf("%s=%s", p.Spec.NodeName, p.Spec.Containers[0].Image))
		}
		slices.Sort(out)
		return strings.Join(out, " ") == want
	})
}

// TestOnePodPerNode follows nodes that come and go, and labels that choose among them.
func TestOnePodPerNode(t *testing.T) {
	c := begin(t, nil)
	await(t, c, 2, "n1=agent:1 n2=agent:1")
	addNode(t, c, "n3")
	await(t, c, 3, "n1=agent:1 n2=agent:1 n3=agent:1")
	if _, err := client.Of[*corev1.Node](c).Patch(t.Context(), "", "n2", types.MergePatchType, []byte(`{"metadata":{"labels":{"role":"edge"}}}`)); err != nil {
		t.Fatal(err)
	}
	patch(t, c, `{"spec":{"template":{"spec":{"nodeSelector":{"role":"edge"}}}}}`)
	await(t, c, 1, "n2=agent:1")
}

// TestRollingUpdate changes the image and goes back.
func TestRollingUpdate(t *testing.T) {
	c := begin(t, nil)
	await(t, c, 2, "n1=agent:1 n2=agent:1")
	patch(t, c, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"agent:2"}]}}}}`)
	for _, p := range await(t, c, 2, "n1=agent:2 n2=agent:2") {
		if p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == "" {
			t.Errorf("pod %s has no revision: %v", p.Name, p.Labels)
		}
	}
	patch(t, c, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"agent:1"}]}}}}`)
	await(t, c, 2, "n1=agent:1 n2=agent:1")
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.ControllerRevision) bool {
		return len(all) == 2 && max(all[0].Revision, all[1].Revision) == 3
	})
}

// TestDoubleRevision makes a second revision of the current template: the newer one stays and takes over the pods, none of which
// is replaced, and numbers don't grow.
func TestDoubleRevision(t *testing.T) {
	c := begin(t, nil)
	pods := await(t, c, 2, "n1=agent:1 n2=agent:1")
	revisions := client.Of[*appsv1.ControllerRevision](c)
	first := testcluster.Await(t, c, "default", patience, func(all []*appsv1.ControllerRevision) bool { return len(all) == 1 })[0]
	double := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "agent-double", Labels: map[string]string{"app": "agent", appsv1.DefaultDaemonSetUniqueLabelKey: "double"},
			OwnerReferences: first.OwnerReferences,
		},
		Data: first.Data, Revision: 2,
	}
	if _, err := revisions.Create(t.Context(), double); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.ControllerRevision) bool {
		return len(all) == 1 && all[0].Name == double.Name && all[0].Revision == 2
	})
	patch(t, c, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"agent:2"}]}},"updateStrategy":{"type":"OnDelete"}}}`)
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.ControllerRevision) bool {
		return len(all) == 2 && max(all[0].Revision, all[1].Revision) == 3
	})
	for _, p := range await(t, c, 2, "n1=agent:1 n2=agent:1") {
		if p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] != "double" || !slices.ContainsFunc(pods, func(old *corev1.Pod) bool { return old.UID == p.UID }) {
			t.Errorf("pod %s has revision %q, and may be new", p.Name, p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey])
		}
	}
}

// TestOnDelete leaves old pods alone until somebody deletes them.
func TestOnDelete(t *testing.T) {
	c := begin(t, func(s *appsv1.DaemonSetSpec) { s.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType })
	pods := await(t, c, 2, "n1=agent:1 n2=agent:1")
	patch(t, c, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"agent:2"}]}}}}`)
	// A controller that sees the end of a pod before the new template makes the pod again as it was, and then it stays.
	testcluster.Await(t, c, "default", patience, func(all []*appsv1.DaemonSet) bool {
		return all[0].Status.ObservedGeneration == all[0].Generation && all[0].Status.UpdatedNumberScheduled == 0
	})
	for _, p := range pods {
		if p.Spec.NodeName == "n1" {
			if err := client.Of[*corev1.Pod](c).Delete(t.Context(), "default", p.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	await(t, c, 2, "n1=agent:2 n2=agent:1")
}

// TestFailedPodIsReplaced lets a pod fail.
func TestFailedPodIsReplaced(t *testing.T) {
	c := begin(t, nil)
	pod := await(t, c, 2, "n1=agent:1 n2=agent:1")[0]
	failed := pod.DeepCopy()
	failed.ResourceVersion, failed.Status.Phase = "", corev1.PodFailed
	if _, err := client.Of[*corev1.Pod](c).UpdateStatus(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Pod) bool {
		running := 0
		for _, p := range all {
			if p.UID == pod.UID {
				return false
			}
			if p.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		return running == 2
	})
}
