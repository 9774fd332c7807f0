// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
