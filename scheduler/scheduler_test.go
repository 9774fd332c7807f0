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
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/rules/volumes"
	"kogge.dev/kogge/scheduler"
	"kogge.dev/kogge/testcluster"
)

// limit is longer than the ten seconds that a pod may have to wait before it is tried again.
const limit = 20 * time.Second

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

func priorityClass(t *testing.T, c *client.Client, name string, value int32) {
	t.Helper()
	create(t, c, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value})
}

func withPriority(class string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.PriorityClassName = class }
}

func TestImportantPodPreempts(t *testing.T) {
	c := start(t)
	priorityClass(t, c, "high", 1000)
	addNode(t, c, "node-a", "2", nil)
	keep := func(p *corev1.Pod) { p.Finalizers = []string{"example.com/look"} } // the victim stays to be looked at
	create(t, c, pod("victim", "1", keep))
	create(t, c, pod("small", "100m"))
	testcluster.Await(t, c, "default", limit, placed(2))
	create(t, c, pod("vip", "1500m", withPriority("high")))
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Pod) bool {
		seen := 0
		for _, p := range all {
			cond := pods.Condition(p, corev1.DisruptionTarget)
			switch p.Name {
			case "victim":
				if p.DeletionTimestamp != nil && cond != nil && cond.Reason == corev1.PodReasonPreemptionByScheduler &&
					cond.Message == "default-scheduler: preempting to accommodate a higher priority pod" {
					seen++
				}
			case "small":
				if p.DeletionTimestamp == nil {
					seen++
				}
			case "vip":
				if p.Status.NominatedNodeName == "node-a" && p.Spec.NodeName == "" {
					seen++
				}
			}
		}
		return seen == 3
	})
	testcluster.Await(t, c, "default", limit, func(events []*corev1.Event) bool {
		for _, e := range events {
			if e.Reason == "Preempted" && e.InvolvedObject.Name == "victim" && strings.HasPrefix(e.Message, "Preempted by pod ") &&
				strings.HasSuffix(e.Message, " on node node-a") {
				return true
			}
		}
		return false
	})
	// The kubelet would end it; here it is ended by hand.
	if _, err := client.Of[*corev1.Pod](c).Patch(t.Context(), "default", "victim", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)); err != nil {
		t.Fatal(err)
	}
	if err := client.IgnoreNotFound(client.Of[*corev1.Pod](c).Delete(t.Context(), "default", "victim", metav1.DeleteOptions{GracePeriodSeconds: new(int64)})); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Pod) bool {
		for _, p := range all {
			if p.Name == "vip" {
				return p.Spec.NodeName == "node-a"
			}
		}
		return false
	})
}

func TestGatedPodWaits(t *testing.T) {
	c := start(t)
	addNode(t, c, "node-a", "2", nil)
	create(t, c, pod("gated", "1", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/gate"}} }))
	create(t, c, pod("free", "1"))
	refusal(t, c, "gated", corev1.PodReasonSchedulingGated, "Scheduling is blocked due to non-empty scheduling gates")
	testcluster.Await(t, c, "default", limit, placed(1))
	if _, err := client.Of[*corev1.Pod](c).Patch(t.Context(), "default", "gated", types.JSONPatchType,
		[]byte(`[{"op":"remove","path":"/spec/schedulingGates"}]`)); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, placed(2))
}

func TestClaimWaitsForItsFirstConsumer(t *testing.T) {
	c := start(t)
	addNode(t, c, "node-a", "2", nil)
	addNode(t, c, "node-b", "2", nil)
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	create(t, c, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "made"}, Provisioner: "example.com/made", VolumeBindingMode: &mode})
	class := "made"
	create(t, c, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	})
	create(t, c, pod("user", "1", func(p *corev1.Pod) {
		p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "node-b"}
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}
	}))
	claims := testcluster.Await(t, c, "default", limit, func(all []*corev1.PersistentVolumeClaim) bool {
		return len(all) == 1 && all[0].Annotations[volumes.SelectedNode] == "node-b"
	})
	for _, p := range testcluster.Await(t, c, "default", limit, func(all []*corev1.Pod) bool { return len(all) == 1 }) {
		if p.Spec.NodeName != "" {
			t.Errorf("pod is bound to %s before its claim", p.Spec.NodeName)
		}
	}
	// What a provisioner would do; then comes the binder.
	create(t, c, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-1", Annotations: map[string]string{volumes.ProvisionedBy: "example.com/made"}},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: claims[0].Spec.AccessModes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "default", Name: "data", UID: claims[0].UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "made.example.com", VolumeHandle: "h"}},
		},
	})
	bind(t, c, claims[0])
	testcluster.Await(t, c, "default", limit, placed(1))
}

// bind does the binder's part for a claim.
func bind(t *testing.T, c *client.Client, claim *corev1.PersistentVolumeClaim) {
	t.Helper()
	api := client.Of[*corev1.PersistentVolumeClaim](c)
	if _, err := api.Patch(t.Context(), "default", claim.Name, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}},"spec":{"volumeName":"pv-1"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Patch(t.Context(), "default", claim.Name, types.MergePatchType, []byte(`{"status":{"phase":"Bound"}}`), "status"); err != nil {
		t.Fatal(err)
	}
}

func TestFinishedPodMakesRoom(t *testing.T) {
	c := start(t)
	addNode(t, c, "node-a", "1", nil)
	create(t, c, pod("first", "1"))
	testcluster.Await(t, c, "default", limit, placed(1))
	create(t, c, pod("second", "1"))
	refusal(t, c, "second", corev1.PodReasonUnschedulable, "1 Insufficient cpu")
	if _, err := client.Of[*corev1.Pod](c).Patch(t.Context(), "default", "first", types.MergePatchType,
		[]byte(`{"status":{"phase":"Succeeded"}}`), "status"); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, placed(2))
}

func TestDevicesAreAllocated(t *testing.T) {
	c := start(t)
	addNode(t, c, "node-a", "4", nil)
	addNode(t, c, "node-b", "4", nil)
	create(t, c, &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}})
	node := "node-b"
	create(t, c, &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "slice"},
		Spec: resourcev1.ResourceSliceSpec{
			Driver: "gpu.example.com", NodeName: &node, Pool: resourcev1.ResourcePool{Name: "node-b", Generation: 1, ResourceSliceCount: 1},
			Devices: []resourcev1.Device{{Name: "gpu-0"}},
		},
	})
	for _, name := range []string{"first", "second"} {
		create(t, c, &resourcev1.ResourceClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{
				Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu"},
			}}}},
		})
		create(t, c, pod(name, "1", func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: &name}}
		}))
		if name == "first" {
			all := testcluster.Await(t, c, "default", limit, placed(1))
			if all[0].Spec.NodeName != "node-b" {
				t.Errorf("pod is on %s, want node-b, which has the device", all[0].Spec.NodeName)
			}
		}
	}
	refusal(t, c, "second", corev1.PodReasonUnschedulable, "0/2 nodes are available: 2 cannot allocate all claims.")
	claim, err := client.Of[*resourcev1.ResourceClaim](c).Get(t.Context(), "default", "first")
	if err != nil {
		t.Fatal(err)
	}
	if claim.Status.Allocation == nil || len(claim.Status.ReservedFor) != 1 || claim.Status.ReservedFor[0].Name != "first" {
		t.Errorf("claim's status = %+v, want it allocated and reserved for its pod", claim.Status)
	}
}
