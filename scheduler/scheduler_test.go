// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/scheduler"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

// start runs a scheduler on a control plane of its own and returns the administrator's client.
func start(t *testing.T) *client.Client {
	t.Helper()
	cluster := testcluster.New(t, testcluster.Config{Without: control.Components{Scheduler: true, Cloud: true}})
	own := cluster.As("system:kube-scheduler")
	log := slog.New(slog.DiscardHandler)
	informers := client.NewInformers(own, log)
	events := reconcile.NewRecorder(own, "default-scheduler", "", log)
	s, err := scheduler.New(scheduler.Config{Client: own, Informers: informers, Events: events, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { done <- informers.Run(ctx) }()
	go func() { done <- events.Run(ctx) }()
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-done; err != nil {
				t.Errorf("scheduler ended: %v", err)
			}
		}
	})
	admin := cluster.Admin()
	testcluster.Await(t, admin, "default", limit, func(all []*corev1.ServiceAccount) bool { return len(all) > 0 })
	return admin
}

func create[T kinds.Object](t *testing.T, c *client.Client, obj T) T {
	t.Helper()
	made, err := client.Of[T](c).Create(t.Context(), obj)
	if err != nil {
		t.Fatalf("create %s: %v", obj.GetName(), err)
	}
	return made
}

// addNode makes a ready node.
func addNode(t *testing.T, c *client.Client, name, cpu string, labels map[string]string) *corev1.Node {
	t.Helper()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelHostname] = name
	list := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	create(t, c, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Status:     corev1.NodeStatus{Allocatable: list, Capacity: list, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	})
	// Admission taints every new node until it is known to be ready.
	made, err := client.Of[*corev1.Node](c).Patch(t.Context(), "", name, types.MergePatchType, []byte(`{"spec":{"taints":null}}`))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// pod makes a pod that requests CPU.
func pod(name, cpu string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/image:1"}}},
	}
	if cpu != "" {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	for _, fn := range change {
		fn(p)
	}
	return p
}

func placed(n int) func([]*corev1.Pod) bool {
	return func(all []*corev1.Pod) bool {
		with := 0
		for _, p := range all {
			if p.Spec.NodeName != "" {
				with++
			}
		}
		return with == n
	}
}

// refusal waits for a pod's PodScheduled condition to carry a message with text.
func refusal(t *testing.T, c *client.Client, name, reason, text string) {
	t.Helper()
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Pod) bool {
		for _, p := range all {
			if cond := pods.Condition(p, corev1.PodScheduled); p.Name == name && cond != nil {
				return cond.Status == corev1.ConditionFalse && cond.Reason == reason && strings.Contains(cond.Message, text)
			}
		}
		return false
	})
}

func TestPodsGetNodes(t *testing.T) {
	c := start(t)
	for i := range 3 {
		addNode(t, c, fmt.Sprintf("node-%d", i), "4", nil)
	}
	for i := range 12 {
		create(t, c, pod(fmt.Sprintf("pod-%d", i), "1"))
	}
	all := testcluster.Await(t, c, "default", limit, placed(12))
	per := map[string]int{}
	for _, p := range all {
		per[p.Spec.NodeName]++
		if cond := pods.Condition(p, corev1.PodScheduled); cond == nil || cond.Status != corev1.ConditionTrue {
			t.Errorf("pod %s: condition PodScheduled = %+v, want True", p.Name, cond)
		}
	}
	for node, n := range per {
		if n != 4 {
			t.Errorf("node %s has %d pods of 1 CPU, want 4", node, n)
		}
	}
	testcluster.Await(t, c, "default", limit, func(events []*corev1.Event) bool {
		for _, e := range events {
			if e.Reason == "Scheduled" && strings.HasPrefix(e.Message, "Successfully assigned default/pod-") {
				return true
			}
		}
		return false
	})
}

func TestPodWaitsUntilThereIsRoom(t *testing.T) {
	c := start(t)
	create(t, c, pod("first", "3"))
	refusal(t, c, "first", corev1.PodReasonUnschedulable, "no nodes available to schedule pods")
	addNode(t, c, "node-a", "4", nil)
	testcluster.Await(t, c, "default", limit, placed(1))
	create(t, c, pod("second", "2"))
	refusal(t, c, "second", corev1.PodReasonUnschedulable,
		"0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
	if err := client.Of[*corev1.Pod](c).Delete(t.Context(), "default", "first", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, placed(1))
}

func TestOtherSchedulersPodsAreLeftAlone(t *testing.T) {
	c := start(t)
	addNode(t, c, "node-a", "4", nil)
	create(t, c, pod("foreign", "1", func(p *corev1.Pod) { p.Spec.SchedulerName = "another" }))
	create(t, c, pod("ours", "1"))
	for _, p := range testcluster.Await(t, c, "default", limit, placed(1)) {
		if p.Name == "foreign" && p.Spec.NodeName != "" {
			t.Errorf("pod of another scheduler got node %s", p.Spec.NodeName)
		}
	}
}
