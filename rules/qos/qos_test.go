// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package qos

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func TestCompute(t *testing.T) {
	both := list("cpu", "1", "memory", "1Gi")
	full := corev1.ResourceRequirements{Requests: both, Limits: both}
	for _, tc := range []struct {
		name string
		pod  corev1.PodSpec
		want corev1.PodQOSClass
	}{
		{"nothing said", corev1.PodSpec{Containers: []corev1.Container{{}}}, corev1.PodQOSBestEffort},
		{"zero is nothing", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "0")}}}}, corev1.PodQOSBestEffort},
		{"other resources are nothing", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: list("example.com/gpu", "1")}}}}, corev1.PodQOSBestEffort},
		{"limits equal requests", corev1.PodSpec{Containers: []corev1.Container{{Resources: full}}}, corev1.PodQOSGuaranteed},
		{"one container without", corev1.PodSpec{Containers: []corev1.Container{{Resources: full}, {}}}, corev1.PodQOSBurstable},
		{"an init container without", corev1.PodSpec{Containers: []corev1.Container{{Resources: full}}, InitContainers: []corev1.Container{{}}}, corev1.PodQOSBurstable},
		{"requests below limits", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "1", "memory", "1Mi"), Limits: both}}}}, corev1.PodQOSBurstable},
		{"only one resource", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "1")}}}}, corev1.PodQOSBurstable},
		{"the pod as a whole", corev1.PodSpec{Resources: &full, Containers: []corev1.Container{{}}}, corev1.PodQOSGuaranteed},
		{"the pod as a whole, requests only", corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: both}, Containers: []corev1.Container{{Resources: full}}}, corev1.PodQOSBurstable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Compute(&corev1.Pod{Spec: tc.pod}); got != tc.want {
				t.Errorf("Compute = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestOfTrustsTheStatus(t *testing.T) {
	if got := Of(&corev1.Pod{Status: corev1.PodStatus{QOSClass: corev1.PodQOSGuaranteed}}); got != corev1.PodQOSGuaranteed {
		t.Errorf("Of = %s", got)
	}
}
