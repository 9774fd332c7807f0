// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package limitranger_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/admission/limitranger"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func container(requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func ask(plural, sub string, op admission.Operation, obj runtime.Object) *admission.Attributes {
	return &admission.Attributes{Operation: op, Resource: schema.GroupVersionResource{Version: "v1", Resource: plural}, Subresource: sub, Namespace: "n", Object: obj}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		item corev1.LimitRangeItem
		obj  runtime.Object
		want string
	}{
		{"within", corev1.LimitRangeItem{Type: "Container", Max: list("cpu", "1"), Min: list("cpu", "100m")}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "100m"), list("cpu", "1"))}}}, ""},
		{"no request", corev1.LimitRangeItem{Type: "Container", Min: list("cpu", "1")}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(nil, nil)}}}, "minimum cpu usage per Container is 1.  No request is specified"},
		{"small request", corev1.LimitRangeItem{Type: "Container", Min: list("memory", "1Gi")}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(list("memory", "1Mi"), nil)}}}, "minimum memory usage per Container is 1Gi, but request is 1Mi"},
		{"no limit", corev1.LimitRangeItem{Type: "Container", Max: list("cpu", "1")}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1"), nil)}}}, "maximum cpu usage per Container is 1.  No limit is specified"},
		{"large request of an init container", corev1.LimitRangeItem{Type: "Container", Max: list("cpu", "1")}, &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{container(list("cpu", "2"), list("cpu", "1"))}}}, "maximum cpu usage per Container is 1, but request is 2"},
		{"ratio", corev1.LimitRangeItem{Type: "Container", MaxLimitRequestRatio: list("cpu", "2")}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(list("cpu", "1"), list("cpu", "3"))}}}, "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"},
		{"sum of a pod", corev1.LimitRangeItem{Type: "Pod", Max: list("cpu", "1")}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(nil, list("cpu", "600m")), container(nil, list("cpu", "600m"))}}}, "maximum cpu usage per Pod is 1, but limit is 1200m"},
		{"a claim", corev1.LimitRangeItem{Type: "PersistentVolumeClaim", Max: list("storage", "1Gi")}, &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "2Gi")}}}, "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &limitranger.Plugin{Reader: admissiontest.NewReader(&corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{c.item}}})}
			plural := "pods"
			if _, ok := c.obj.(*corev1.PersistentVolumeClaim); ok {
				plural = "persistentvolumeclaims"
			}
			err := p.Validate(t.Context(), ask(plural, "", admission.Create, c.obj))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), "is forbidden: "+c.want)) {
				t.Errorf("error = %v, want %q", err, c.want)
			}
			if plural == "pods" {
				if err := p.Validate(t.Context(), ask(plural, "", admission.Update, c.obj)); err != nil {
					t.Errorf("an update of a pod is judged: %v", err)
				}
			}
		})
	}
}

func TestAdmitFillsDefaults(t *testing.T) {
	p := &limitranger.Plugin{Reader: admissiontest.NewReader(&corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "l"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
			{Type: "Container", Default: list("cpu", "1", "memory", "1Gi"), DefaultRequest: list("cpu", "500m")}, {Type: "Pod", Max: list("cpu", "9")},
		}},
	})}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container(nil, list("cpu", "2"))}, InitContainers: []corev1.Container{container(nil, nil)}}}
	if err := p.Admit(t.Context(), ask("pods", "", admission.Create, pod)); err != nil {
		t.Fatal(err)
	}
	limits := pod.Spec.Containers[0].Resources.Limits
	if cpu, mem := limits["cpu"], limits["memory"]; cpu.String() != "2" || mem.String() != "1Gi" {
		t.Errorf("limits = %v", limits)
	}
	want := "LimitRanger plugin set: cpu request for container c; memory limit for container c; cpu request for init container c; cpu, memory limit for init container c"
	if got := pod.Annotations["kubernetes.io/limit-ranger"]; got != want {
		t.Errorf("annotation = %q\nwant         %q", got, want)
	}
}
