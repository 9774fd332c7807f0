// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package endpointslice_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const patience = 20 * time.Second

// pod makes a running pod with an address, on a node where one is named; readiness follows ready.
func pod(t *testing.T, c *client.Client, name, node, ip string, ready corev1.ConditionStatus) {
	t.Helper()
	pods := client.Of[*corev1.Pod](c)
	made, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Name: "c", Image: "c:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	next := made.DeepCopy()
	next.ResourceVersion = ""
	next.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.Now()}},
	}
	if _, err := pods.UpdateStatus(t.Context(), next); err != nil {
		t.Fatal(err)
	}
}

func service(t *testing.T, c *client.Client) {
	t.Helper()
	_, err := client.Of[*corev1.Service](c).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for the Service's endpoints, in one slice: address, and a mark on those not ready. A slice for other ports comes before the one
// that it replaces goes.
func await(t *testing.T, c *client.Client, want string) []*discoveryv1.EndpointSlice {
	t.Helper()
	return testcluster.Await(t, c, "default", patience, func(all []*discoveryv1.EndpointSlice) bool {
		var out []string
		found := 0
		for _, s := range all {
			if s.Labels[discoveryv1.LabelServiceName] != "web" {
				continue
			}
			found++
			for _, e := range s.Endpoints {
				text := e.Addresses[0]
				if !*e.Conditions.Ready {
					text += "!"
				}
				out = append(out, text)
			}
		}
		slices.Sort(out)
		return found == 1 && strings.Join(out, " ") == want
	})
}

// TestServiceOfPods lists ready and unready pods, in slices and in Endpoints, and follows deletions.
func TestServiceOfPods(t *testing.T) {
	c := testcluster.New(t).Admin()
	service(t, c)
	await(t, c, "")
	pod(t, c, "a", "", "10.244.0.5", corev1.ConditionTrue)
	pod(t, c, "b", "", "10.244.0.6", corev1.ConditionFalse)
	for _, s := range await(t, c, "10.244.0.5 10.244.0.6!") {
		if s.Labels[discoveryv1.LabelServiceName] != "web" {
			continue
		}
		if s.Labels["team"] != "a" || s.Labels[discoveryv1.LabelManagedBy] != "endpointslice-controller.k8s.io" {
			t.Errorf("labels of the slice: %v", s.Labels)
		}
		if len(s.Ports) != 1 || *s.Ports[0].Name != "http" || *s.Ports[0].Port != 8080 || s.AddressType != discoveryv1.AddressTypeIPv4 {
			t.Errorf("ports of the slice: %+v", s.Ports)
		}
	}
	awaitEndpoints(t, c, "10.244.0.5 | 10.244.0.6")
	if err := client.Of[*corev1.Pod](c).Delete(t.Context(), "default", "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, c, "10.244.0.6!")
	awaitEndpoints(t, c, " | 10.244.0.6")
	if err := client.Of[*corev1.Service](c).Delete(t.Context(), "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", patience, func(all []*discoveryv1.EndpointSlice) bool {
		return !slices.ContainsFunc(all, func(s *discoveryv1.EndpointSlice) bool { return s.Labels[discoveryv1.LabelServiceName] == "web" })
	})
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Endpoints) bool {
		return !slices.ContainsFunc(all, func(e *corev1.Endpoints) bool { return e.Name == "web" })
	})
}

// TestZoneFollowsTheNode makes the node of a pod after the pod, and then has it change zones.
func TestZoneFollowsTheNode(t *testing.T) {
	c := testcluster.New(t).Admin()
	service(t, c)
	pod(t, c, "a", "n1", "10.244.0.5", corev1.ConditionTrue)
	await(t, c, "10.244.0.5")
	awaitZone := func(zone string) {
		t.Helper()
		testcluster.Await(t, c, "default", patience, func(all []*discoveryv1.EndpointSlice) bool {
			return slices.ContainsFunc(all, func(s *discoveryv1.EndpointSlice) bool {
				return s.Labels[discoveryv1.LabelServiceName] == "web" && len(s.Endpoints) == 1 && s.Endpoints[0].Zone != nil && *s.Endpoints[0].Zone == zone
			})
		})
	}
	nodes := client.Of[*corev1.Node](c)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "one"}}}
	if _, err := nodes.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	awaitZone("one")
	moved := []byte(`{"metadata":{"labels":{"` + corev1.LabelTopologyZone + `":"two"}}}`)
	if _, err := nodes.Patch(t.Context(), "", "n1", types.MergePatchType, moved); err != nil {
		t.Fatal(err)
	}
	awaitZone("two")
}

// awaitEndpoints waits for the Endpoints: ready and unready addresses.
func awaitEndpoints(t *testing.T, c *client.Client, want string) {
	t.Helper()
	testcluster.Await(t, c, "default", patience, func(all []*corev1.Endpoints) bool {
		for _, e := range all {
			if e.Name != "web" {
				continue
			}
			var ready, not []string
			for _, s := range e.Subsets {
				for _, a := range s.Addresses {
					ready = append(ready, a.IP)
				}
				for _, a := range s.NotReadyAddresses {
					not = append(not, a.IP)
				}
			}
			return strings.Join(ready, " ")+" | "+strings.Join(not, " ") == want
		}
		return false
	})
}
