// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package devicetainteviction_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/testcluster"
)

func add[T kinds.Object](t *testing.T, c *client.Client, obj T, text string) T {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	made, err := client.Of[T](c).Create(t.Context(), obj)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func pod(name string) string {
	return `
metadata: {name: ` + name + `, namespace: default}
spec:
  resourceClaims: [{name: d, resourceClaimName: ` + name + `}]
  containers: [{name: c, image: i, resources: {claims: [{name: d}]}}]
`
}

// TestTaintedDevices taints two devices under pods whose claims tolerate that not at all, and for a minute.
func TestTaintedDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t).Admin()
		node := add(t, c, &corev1.Node{}, `{metadata: {name: n1}}`).DeepCopy()
		node.ResourceVersion = ""
		if err := yaml.UnmarshalStrict([]byte(`
allocatable: {cpu: "8", memory: 8Gi, pods: "110"}
conditions: [{type: Ready, status: "True"}]
`), &node.Status); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Of[*corev1.Node](c).UpdateStatus(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		add(t, c, &resourcev1.DeviceClass{}, `{metadata: {name: gpu}, spec: {}}`)
		add(t, c, &resourcev1.ResourceSlice{}, `
metadata: {name: slice}
spec:
  driver: gpu.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu0}, {name: gpu1}]
`)
		time.Sleep(time.Second)
		synctest.Wait()
		for name, tolerations := range map[string]string{"none": "", "minute": ", tolerations: [{operator: Exists, effect: NoExecute, tolerationSeconds: 60}]"} {
			add(t, c, &resourcev1.ResourceClaim{}, `
metadata: {name: `+name+`, namespace: default}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu`+tolerations+`}}]}}
`)
			add(t, c, &corev1.Pod{}, pod(name))
		}
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		pass(2 * time.Second)
		going := func(name string) bool {
			t.Helper()
			p, err := client.Of[*corev1.Pod](c).Get(t.Context(), "default", name)
			if err != nil {
				t.Fatal(err)
			}
			if p.Spec.NodeName == "" {
				t.Fatalf("pod %s is not scheduled: %+v", name, p.Status.Conditions)
			}
			return p.DeletionTimestamp != nil
		}
		if going("none") || going("minute") {
			t.Fatal("a pod goes before there are taints")
		}
		patch := `{"spec":{"devices":[{"name":"gpu0","taints":[{"key":"broken","effect":"NoExecute"}]},{"name":"gpu1","taints":[{"key":"broken","effect":"NoExecute"}]}]}}`
		if _, err := client.Of[*resourcev1.ResourceSlice](c).Patch(t.Context(), "", "slice", types.MergePatchType, []byte(patch)); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if !going("none") || going("minute") {
			t.Errorf("at once: none %v, minute %v", going("none"), going("minute"))
		}
		p, err := client.Of[*corev1.Pod](c).Get(t.Context(), "default", "none")
		if err != nil {
			t.Fatal(err)
		}
		said := false
		for _, condition := range p.Status.Conditions {
			said = said || condition.Type == corev1.DisruptionTarget && condition.Reason == "DeletionByDeviceTaintManager"
		}
		if !said {
			t.Errorf("conditions of the evicted pod: %+v", p.Status.Conditions)
		}
		pass(time.Minute)
		if !going("minute") {
			t.Error("the other pod did not go after its minute")
		}
	})
}
