// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podresource

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func cpu(text string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(text)}
}

func container(name, request string) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: cpu(request)}}
}

func TestRequests(t *testing.T) {
	sidecar := container("s", "200m")
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	resizing := corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		Name: "a", Resources: &corev1.ResourceRequirements{Requests: cpu("3")}, AllocatedResources: cpu("2"),
	}}}
	for _, tc := range []struct {
		name string
		pod  corev1.Pod
		want string
		spec string // of SpecRequests; empty when the same
	}{
		{"containers add up", corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "1"), container("b", "500m")}}}, "1500m", ""},
		{"a larger init container counts", corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "1")}, InitContainers: []corev1.Container{container("i", "4")}}}, "4", ""},
		{"sidecars count beside both", corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "1")}, InitContainers: []corev1.Container{sidecar, container("i", "4")}}}, "4200m", ""},
		{"overhead comes on top", corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "1")}, Overhead: cpu("100m")}}, "1100m", ""},
		{"the pod's own word goes first", corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "1")}, Resources: &corev1.ResourceRequirements{Requests: cpu("2")}}}, "2", ""},
		{"a shrinking container keeps what it has", corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("a", "1")}}, Status: resizing}, "3", "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Requests(&tc.pod)[corev1.ResourceCPU]
			if got.Cmp(resource.MustParse(tc.want)) != 0 {
				t.Errorf("Requests = %s, want %s", got.String(), tc.want)
			}
			want := tc.want
			if tc.spec != "" {
				want = tc.spec
			}
			got = SpecRequests(&tc.pod)[corev1.ResourceCPU]
			if got.Cmp(resource.MustParse(want)) != 0 {
				t.Errorf("SpecRequests = %s, want %s", got.String(), want)
			}
		})
	}
}

func TestRequestsOrFillsInWhatIsMissing(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, container("b", "1")}}}
	got := RequestsOr(pod, cpu("100m"))[corev1.ResourceCPU]
	if got.Cmp(resource.MustParse("1100m")) != 0 {
		t.Errorf("RequestsOr = %s, want 1100m", got.String())
	}
}
