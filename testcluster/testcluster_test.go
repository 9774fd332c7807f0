// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestDeploymentMakesPods follows a Deployment down to its pods.
func TestDeploymentMakesPods(t *testing.T) {
	c := testcluster.New(t).Admin()
	labels := map[string]string{"app": "web"}
	replicas := int32(3)
	_, err := client.Of[*appsv1.Deployment](c).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}}},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	pods := testcluster.Await(t, c, "default", 10*time.Second, func(all []*corev1.Pod) bool { return len(all) == 3 })
	for _, pod := range pods {
		if pod.Labels["app"] != "web" {
			t.Errorf("pod %s has labels %v", pod.Name, pod.Labels)
		}
	}
}

// TestReadOfAPath reads what is no resource of the server's own, under the client's identity.
func TestReadOfAPath(t *testing.T) {
	cluster := testcluster.New(t)
	const path = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"
	data, err := cluster.Admin().Read(t.Context(), path, url.Values{"labelSelector": {"a=b"}})
	if err != nil || !strings.Contains(string(data), `"PodMetricsList"`) {
		t.Errorf("Read as admin = %s, %v", data, err)
	}
	if _, err := cluster.As("nobody").Read(t.Context(), path, nil); !apierrors.IsForbidden(err) {
		t.Errorf("Read as nobody = %v, want forbidden", err)
	}
	if _, err := cluster.Admin().Read(t.Context(), "/apis/absent.example.com/v1", nil); !apierrors.IsNotFound(err) {
		t.Errorf("Read of an absent group = %v, want not found", err)
	}
}

// TestMetricsForgetKindsThatAreGone defines a kind, uses it, and deletes it: no series has its name then.
func TestMetricsForgetKindsThatAreGone(t *testing.T) {
	c := testcluster.New(t).Admin()
	definitions := client.Of[*apiextensionsv1.CustomResourceDefinition](c)
	if _, err := definitions.Create(t.Context(), &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "ships.sea.example"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "sea.example", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "ships", Kind: "Ship"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
			}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "", 10*time.Second, func(all []*apiextensionsv1.CustomResourceDefinition) bool {
		return len(all) == 1 && slices.ContainsFunc(all[0].Status.Conditions, func(condition apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue
		})
	})
	gvr := schema.GroupVersionResource{Group: "sea.example", Version: "v1", Resource: "ships"}
	ships := client.At(c, gvr, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
	stream, err := ships.Watch(t.Context(), "default", metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ships.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "sea.example/v1", "kind": "Ship", "metadata": map[string]any{"namespace": "default", "name": "kogge"},
	}}); err != nil {
		t.Fatal(err)
	}
	named := func() int {
		t.Helper()
		text, err := c.Read(t.Context(), "/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "sea.example")
	}
	if named() == 0 {
		t.Fatal("no series has the name of a kind that is used")
	}
	if err := definitions.Delete(t.Context(), "", "ships.sea.example", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for open, limit := true, time.After(10*time.Second); open; {
		select {
		case _, open = <-stream.Events():
		case <-limit:
			t.Fatal("the watch did not end with its resource")
		}
	}
	testcluster.Await(t, c, "", 10*time.Second, func(all []*apiextensionsv1.CustomResourceDefinition) bool { return len(all) == 0 })
	for deadline := time.Now().Add(10 * time.Second); named() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d series have the name of a kind that is gone", named())
		}
	}
}

// TestWithoutTheRecordWhatIsTooLargeWithIt creates and updates an object that has no room for the record of its fields.
func TestWithoutTheRecordWhatIsTooLargeWithIt(t *testing.T) {
	c := testcluster.New(t, testcluster.Config{})
	maps := client.Of[*corev1.ConfigMap](c.Admin())
	large := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "large"}, Data: map[string]string{}}
	for i := range 34_000 {
		large.Data[fmt.Sprintf("key-%05d", i)] = strings.Repeat("x", 20)
	}
	made, err := maps.Create(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Data) != len(large.Data) || len(made.ManagedFields) > 0 {
		t.Errorf("created with %d keys and the record %.100v", len(made.Data), made.ManagedFields)
	}
	next := made.DeepCopy()
	next.Data["key-00000"] = "y"
	if made, err = maps.Update(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if made.Data["key-00000"] != "y" || len(made.ManagedFields) > 0 {
		t.Errorf("updated to %q and the record %.100v", made.Data["key-00000"], made.ManagedFields)
	}
}
