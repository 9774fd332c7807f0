// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package disruption_test

import (
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/disruption"
	"kogge.dev/kogge/testcluster"
)

// TestControllersAreSeenLate has the loop hear of a ReplicaSet, or of its Deployment, after of their pod and budget.
func TestControllersAreSeenLate(t *testing.T) {
	for _, late := range []string{"replicasets", "deployments"} {
		t.Run(late, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, lag := testcluster.RunAlone(t, late, disruption.New)
				lag.Events(time.Minute)
				made := template("web")
				selector := &metav1.LabelSelector{MatchLabels: made.Labels}
				d, err := client.Of[*appsv1.Deployment](c).Create(t.Context(), &appsv1.Deployment{
					ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(4)), Selector: selector, Template: made},
				})
				if err != nil {
					t.Fatal(err)
				}
				rs, err := client.Of[*appsv1.ReplicaSet](c).Create(t.Context(), &appsv1.ReplicaSet{
					ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", OwnerReferences: []metav1.OwnerReference{
						*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment")),
					}},
					Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(2)), Selector: selector, Template: made},
				})
				if err != nil {
					t.Fatal(err)
				}
				_, err = client.Of[*corev1.Pod](c).Create(t.Context(), &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: made.Labels, OwnerReferences: []metav1.OwnerReference{
						*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet")),
					}}, Spec: made.Spec,
				})
				if err != nil {
					t.Fatal(err)
				}
				half := intstr.FromString("50%")
				budget(t, c, policyv1.PodDisruptionBudgetSpec{MinAvailable: &half})
				time.Sleep(30 * time.Second)
				lag.Events(0)
				time.Sleep(time.Minute)
				b, err := client.Of[*policyv1.PodDisruptionBudget](c).Get(t.Context(), "default", "web")
				if err != nil {
					t.Fatal(err)
				}
				if s := b.Status; s.ExpectedPods != 4 || s.DesiredHealthy != 2 {
					t.Errorf("status = %+v, want 2 of 4 pods healthy", s)
				}
			})
		})
	}
}

// TestKindIsSeenLate has the loop hear of a definition, and of the scale that it brings, after of a pod that one of its objects controls.
func TestKindIsSeenLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "customresourcedefinitions", disruption.New)
		lag.Events(time.Minute)
		uid := defineFleet(t, c, 4)
		made := template("web")
		_, err := client.Of[*corev1.Pod](c).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: made.Labels, OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "sea.example/v1", Kind: "Fleet", Name: "web", UID: uid, Controller: new(true),
			}}}, Spec: made.Spec,
		})
		if err != nil {
			t.Fatal(err)
		}
		half := intstr.FromString("50%")
		budget(t, c, policyv1.PodDisruptionBudgetSpec{MinAvailable: &half})
		time.Sleep(time.Hour)
		b, err := client.Of[*policyv1.PodDisruptionBudget](c).Get(t.Context(), "default", "web")
		if err != nil {
			t.Fatal(err)
		}
		if s := b.Status; s.ExpectedPods != 4 || s.DesiredHealthy != 2 {
			t.Errorf("status = %+v, want 2 of 4 pods healthy", s)
		}
	})
}

// defineFleet defines a kind with a scale, and makes an object of it.
func defineFleet(t *testing.T, c *client.Client, replicas int64) types.UID {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "fleets.sea.example"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "sea.example", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "fleets", Singular: "fleet", Kind: "Fleet", ListKind: "FleetList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}},
				Subresources: &apiextensionsv1.CustomResourceSubresources{Scale: &apiextensionsv1.CustomResourceSubresourceScale{
					SpecReplicasPath: ".spec.replicas", StatusReplicasPath: ".status.replicas",
				}},
			}},
		},
	}
	if _, err := client.Of[*apiextensionsv1.CustomResourceDefinition](c).Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	fleets := client.At(c, schema.GroupVersionResource{Group: "sea.example", Version: "v1", Resource: "fleets"}, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
	testcluster.AwaitServed(t, fleets, patience)
	made, err := fleets.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "sea.example/v1", "kind": "Fleet", "metadata": map[string]any{"namespace": "default", "name": "web"},
		"spec": map[string]any{"replicas": replicas},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return made.GetUID()
}
