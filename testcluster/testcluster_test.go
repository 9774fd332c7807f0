// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
