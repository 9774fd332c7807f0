// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package deployment_test

import (
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/deployment"
	"kogge.dev/kogge/testcluster"
)

// TestNamespaceGoesFirst has the loop see a Deployment whose namespace goes away already: no ReplicaSet can be made.
func TestNamespaceGoesFirst(t *testing.T) {
	for _, strategy := range []appsv1.DeploymentStrategyType{appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType} {
		t.Run(string(strategy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, lag := testcluster.RunAlone(t, "deployments", deployment.New)
				lag.Events(time.Minute)
				spaces, deployments := client.Of[*corev1.Namespace](c), client.Of[*appsv1.Deployment](c)
				if _, err := spaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "old"}}); err != nil {
					t.Fatal(err)
				}
				labels := map[string]string{"app": "web"}
				_, err := deployments.Create(t.Context(), &appsv1.Deployment{
					ObjectMeta: metav1.ObjectMeta{Namespace: "old", Name: "web"},
					Spec: appsv1.DeploymentSpec{
						Selector: &metav1.LabelSelector{MatchLabels: labels}, Strategy: appsv1.DeploymentStrategy{Type: strategy},
						Template: corev1.PodTemplateSpec{
							ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "c:1"}}},
						},
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := spaces.Delete(t.Context(), "", "old", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				d, err := deployments.Get(t.Context(), "old", "web")
				if err != nil {
					t.Fatal(err)
				}
				if d.Status.ObservedGeneration != d.Generation {
					t.Errorf("generation %d was observed, want %d", d.Status.ObservedGeneration, d.Generation)
				}
			})
		})
	}
}
