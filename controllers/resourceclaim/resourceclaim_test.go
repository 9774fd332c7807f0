// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resourceclaim_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/testcluster"
)

// limit is longer than the ten seconds that the scheduler may let a pod wait before it is tried again.
const limit = 20 * time.Second

// world is a cluster with a node that has one device.
type world struct {
	*testing.T
	c      *client.Client
	pods   client.Resource[*corev1.Pod]
	claims client.Resource[*resourcev1.ResourceClaim]
}

func begin(t *testing.T) *world {
	t.Helper()
	c := testcluster.New(t).Admin()
	w := &world{T: t, c: c, pods: client.Of[*corev1.Pod](c), claims: client.Of[*resourcev1.ResourceClaim](c)}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.ServiceAccount) bool { return len(all) > 0 })
	node := make1[*corev1.Node](w, &corev1.Node{}, `{metadata: {name: n1}}`)
	node = node.DeepCopy()
	node.ResourceVersion = ""
	parse(t, `
capacity: {cpu: "8", memory: 8Gi, pods: "110"}
allocatable: {cpu: "8", memory: 8Gi, pods: "110"}
conditions: [{type: Ready, status: "True", reason: KubeletReady}]
`, &node.Status)
	if _, err := client.Of[*corev1.Node](c).UpdateStatus(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	make1(w, &resourcev1.DeviceClass{}, `
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: 'device.driver == "gpu.example.com"'}}]}
`)
	make1(w, &resourcev1.ResourceSlice{}, `
metadata: {name: n1-gpu}
spec:
  driver: gpu.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu0}]
`)
	return w
}

func parse(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func make1[T kinds.Object](w *world, obj T, text string) T {
	w.Helper()
	parse(w.T, text, obj)
	made, err := client.Of[T](w.c).Create(w.Context(), obj)
	if err != nil {
		w.Fatal(err)
	}
	return made
}

const template = `
metadata: {name: one-gpu, namespace: default}
spec:
  metadata: {labels: {kind: generated}, annotations: {note: kept}}
  spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}
`

func podText(name, claim string) string {
	return `
metadata: {name: ` + name + `, namespace: default}
spec:
  resourceClaims: [` + claim + `]
  containers: [{name: c, image: i, resources: {claims: [{name: gpu}]}}]
`
}

func (w *world) finish(name string) {
	w.Helper()
	pod, err := w.pods.Get(w.Context(), "default", name)
	if err != nil {
		w.Fatal(err)
	}
	next := pod.DeepCopy()
	next.ResourceVersion, next.Status.Phase = "", corev1.PodSucceeded
	if _, err := w.pods.UpdateStatus(w.Context(), next); err != nil {
		w.Fatal(err)
	}
}

func (w *world) awaitPod(name string, ok func(*corev1.Pod) bool) *corev1.Pod {
	w.Helper()
	var found *corev1.Pod
	testcluster.Await(w.T, w.c, "default", limit, func(all []*corev1.Pod) bool {
		for _, p := range all {
			if p.Name == name && ok(p) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// TestClaimFromTemplate follows one generated claim: made when its template appears, named in the pod's status, allocated and
// reserved by the scheduler, gone when the pod has finished, so that the next pod gets the device.
func TestClaimFromTemplate(t *testing.T) {
	w := begin(t)
	make1(w, &corev1.Pod{}, podText("first", "{name: gpu, resourceClaimTemplateName: one-gpu}"))
	testcluster.Await(t, w.c, "default", limit, func(all []*corev1.Event) bool {
		for _, e := range all {
			if e.Reason == "FailedResourceClaimCreation" && strings.Contains(e.Message, `PodResourceClaim gpu: resource claim template "one-gpu": `) {
				return true
			}
		}
		return false
	})
	make1(w, &resourcev1.ResourceClaimTemplate{}, template)
	pod := w.awaitPod("first", func(p *corev1.Pod) bool { return p.Spec.NodeName == "n1" })
	if len(pod.Status.ResourceClaimStatuses) != 1 || pod.Status.ResourceClaimStatuses[0].Name != "gpu" {
		t.Fatalf("claim statuses of the pod: %+v", pod.Status.ResourceClaimStatuses)
	}
	claim, err := w.claims.Get(t.Context(), "default", *pod.Status.ResourceClaimStatuses[0].ResourceClaimName)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(claim.Name, "first-gpu-") || claim.Labels["kind"] != "generated" || claim.Annotations["note"] != "kept" ||
		claim.Annotations[resourcev1.PodResourceClaimAnnotation] != "gpu" || !metav1.IsControlledBy(claim, pod) {
		t.Errorf("generated claim: %+v", claim.ObjectMeta)
	}
	if claim.Status.Allocation == nil || len(claim.Status.ReservedFor) != 1 || claim.Status.ReservedFor[0].UID != pod.UID {
		t.Errorf("status of the claim: %+v", claim.Status)
	}
	make1(w, &corev1.Pod{}, podText("second", "{name: gpu, resourceClaimTemplateName: one-gpu}"))
	w.awaitPod("second", func(p *corev1.Pod) bool {
		return len(p.Status.Conditions) > 0 && strings.Contains(p.Status.Conditions[0].Message, "cannot allocate all claims")
	})
	w.finish("first")
	w.awaitPod("second", func(p *corev1.Pod) bool { return p.Spec.NodeName == "n1" })
	all := testcluster.Await(t, w.c, "default", limit, func(all []*resourcev1.ResourceClaim) bool { return len(all) == 1 })
	if !strings.HasPrefix(all[0].Name, "second-gpu-") {
		t.Errorf("claim that is left: %s", all[0].Name)
	}
}

// TestClaimOfTheUser is shared by two pods, and stays, unallocated, when both are over.
func TestClaimOfTheUser(t *testing.T) {
	w := begin(t)
	make1(w, &resourcev1.ResourceClaim{}, `
metadata: {name: shared, namespace: default}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}
`)
	for _, name := range []string{"first", "second"} {
		make1(w, &corev1.Pod{}, podText(name, "{name: gpu, resourceClaimName: shared}"))
		w.awaitPod(name, func(p *corev1.Pod) bool { return p.Spec.NodeName == "n1" })
	}
	// A pod that brings its node along is not scheduled: the controller reserves for it.
	bound := strings.Replace(podText("third", "{name: gpu, resourceClaimName: shared}"), "spec:\n", "spec:\n  nodeName: n1\n", 1)
	make1(w, &corev1.Pod{}, bound)
	users := func(n int) []*resourcev1.ResourceClaim {
		return testcluster.Await(t, w.c, "default", limit, func(all []*resourcev1.ResourceClaim) bool {
			return len(all) == 1 && len(all[0].Status.ReservedFor) == n
		})
	}
	users(3)
	w.finish("first")
	if left := users(2); left[0].Status.Allocation == nil {
		t.Error("deallocated while in use")
	}
	w.finish("third")
	zero := int64(0)
	if err := w.pods.Delete(t.Context(), "default", "second", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, w.c, "default", limit, func(all []*resourcev1.ResourceClaim) bool {
		return len(all) == 1 && len(all[0].Status.ReservedFor) == 0 && all[0].Status.Allocation == nil && len(all[0].Finalizers) == 0
	})
	if err := w.claims.Delete(t.Context(), "default", "shared", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, w.c, "default", limit, func(all []*resourcev1.ResourceClaim) bool { return len(all) == 0 })
}

// TestSharedDevice gives parts of one device to several claims, until it has no more.
func TestSharedDevice(t *testing.T) {
	w := begin(t)
	make1(w, &resourcev1.DeviceClass{}, `
metadata: {name: memory}
spec: {selectors: [{cel: {expression: 'device.driver == "memory.example.com"'}}]}
`)
	make1(w, &resourcev1.ResourceSlice{}, `
metadata: {name: n1-memory}
spec:
  driver: memory.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: bank, allowMultipleAllocations: true, capacity: {size: {value: 10Gi, requestPolicy: {default: 1Gi, validRange: {min: 1Gi}}}}}]
`)
	for _, name := range []string{"first", "second", "third"} {
		make1(w, &resourcev1.ResourceClaim{}, `
metadata: {name: `+name+`, namespace: default}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: memory, capacity: {requests: {size: 4Gi}}}}]}}
`)
		make1(w, &corev1.Pod{}, podText(name, "{name: gpu, resourceClaimName: "+name+"}"))
		w.awaitPod(name, func(p *corev1.Pod) bool {
			if name != "third" {
				return p.Spec.NodeName == "n1"
			}
			return len(p.Status.Conditions) > 0 && strings.Contains(p.Status.Conditions[0].Message, "cannot allocate all claims")
		})
	}
	claim, err := w.claims.Get(t.Context(), "default", "second")
	if err != nil {
		t.Fatal(err)
	}
	r := claim.Status.Allocation.Devices.Results[0]
	if size := r.ConsumedCapacity["size"]; r.ShareID == nil || size.String() != "4Gi" {
		t.Errorf("result of a shared device: %+v", r)
	}
	w.finish("first")
	w.awaitPod("third", func(p *corev1.Pod) bool { return p.Spec.NodeName == "n1" })
}
