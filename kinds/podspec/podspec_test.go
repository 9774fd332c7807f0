// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/randfill"
)

func TestImagePullPolicyFollowsTag(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0", 64)
	for image, want := range map[string]corev1.PullPolicy{
		"a": corev1.PullAlways, "a:latest": corev1.PullAlways, "a:1": corev1.PullIfNotPresent, "reg:5000/a": corev1.PullAlways,
		"reg:5000/a:1": corev1.PullIfNotPresent, "a" + digest: corev1.PullIfNotPresent, "a:latest" + digest: corev1.PullAlways,
		"": corev1.PullIfNotPresent,
	} {
		spec := corev1.PodSpec{Containers: []corev1.Container{{Image: image}}}
		Default(&spec)
		if got := spec.Containers[0].ImagePullPolicy; got != want {
			t.Errorf("%q: %s, want %s", image, got, want)
		}
	}
}

// TestOnlyPodsRequestTheirLimits fails if a template gets what only its pods are to get.
func TestOnlyPodsRequestTheirLimits(t *testing.T) {
	limits := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: limits}}}}
	pod := corev1.Pod{Spec: *spec.DeepCopy()}
	DefaultPod(&pod)
	if diff := cmp.Diff(limits, pod.Spec.Containers[0].Resources.Requests); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	template := corev1.PodTemplateSpec{Spec: *spec.DeepCopy()}
	DefaultTemplate(&template)
	if got := template.Spec.Containers[0].Resources.Requests; got != nil {
		t.Errorf("template: requests %v", got)
	}
	if !ptr.Deref(pod.Spec.EnableServiceLinks, false) {
		t.Error("pod: enableServiceLinks is unset")
	}
	if template.Spec.EnableServiceLinks != nil {
		t.Error("template: enableServiceLinks is set")
	}
}

func TestDefaultingTwiceChangesNothing(t *testing.T) {
	f := randfill.NewWithSeed(7).NilChance(0.5).NumElements(0, 2).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(int64(c.Intn(1000)), resource.DecimalSI)
		},
		func(*runtime.RawExtension, randfill.Continue) {},
	)
	for range 300 {
		template := &corev1.PodTemplateSpec{}
		f.Fill(template)
		DefaultTemplate(template)
		again := template.DeepCopy()
		DefaultTemplate(again)
		if !reflect.DeepEqual(template, again) {
			t.Fatalf("(-once +twice):\n%s", cmp.Diff(template, again))
		}
	}
}

func TestSplitSubscript(t *testing.T) {
	type result struct {
		path, key string
		ok        bool
	}
	for in, want := range map[string]result{
		"metadata.annotations['a']":   {"metadata.annotations", "a", true},
		"metadata.labels['a.b/c']":    {"metadata.labels", "a.b/c", true},
		"metadata.labels['a[b]c']":    {"metadata.labels", "a[b]c", true},
		"metadata.labels['']":         {"metadata.labels", "", true},
		"metadata.labels":             {"metadata.labels", "", false},
		"metadata.labels[a]":          {"metadata.labels[a]", "", false},
		"['a']":                       {"['a']", "", false},
		"metadata.labels['a']suffix":  {"metadata.labels['a']suffix", "", false},
		"metadata.labels['a']['b']":   {"metadata.labels", "a']['b", true},
		"metadata.labels.prefix['a'x": {"metadata.labels.prefix['a'x", "", false},
	} {
		path, key, ok := SplitSubscript(in)
		if got := (result{path, key, ok}); got != want {
			t.Errorf("%s: %v, want %v", in, got, want)
		}
	}
}

func TestRestarts(t *testing.T) {
	rule := func(op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{
			Action: corev1.ContainerRestartRuleActionRestart, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes},
		}}
	}
	never := ptr.To(corev1.ContainerRestartPolicyNever)
	for name, c := range map[string]struct {
		container corev1.Container
		pod       corev1.RestartPolicy
		code      int32
		want      bool
	}{
		"always":              {corev1.Container{}, corev1.RestartPolicyAlways, 0, true},
		"on failure, success": {corev1.Container{}, corev1.RestartPolicyOnFailure, 0, false},
		"on failure, failure": {corev1.Container{}, corev1.RestartPolicyOnFailure, 1, true},
		"never":               {corev1.Container{}, corev1.RestartPolicyNever, 1, false},
		"own policy":          {corev1.Container{RestartPolicy: never}, corev1.RestartPolicyAlways, 1, false},
		"listed": {
			corev1.Container{RestartPolicy: never, RestartPolicyRules: rule(corev1.ContainerRestartRuleOnExitCodesOpIn, 42)},
			corev1.RestartPolicyNever, 42, true,
		},
		"not listed": {
			corev1.Container{RestartPolicy: never, RestartPolicyRules: rule(corev1.ContainerRestartRuleOnExitCodesOpIn, 42)},
			corev1.RestartPolicyNever, 41, false,
		},
		"outside the list": {
			corev1.Container{RestartPolicy: never, RestartPolicyRules: rule(corev1.ContainerRestartRuleOnExitCodesOpNotIn, 42)},
			corev1.RestartPolicyNever, 41, true,
		},
	} {
		if got := Restarts(&c.container, c.pod, c.code); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNatureOfResources(t *testing.T) {
	for name, want := range map[corev1.ResourceName][3]bool{ // huge page, extended, may be overcommitted
		"cpu": {false, false, true}, "memory": {false, false, true}, "hugepages-2Mi": {true, false, false},
		"nvidia.com/gpu": {false, true, false}, "kubernetes.io/x": {false, false, true}, "requests.nvidia.com/gpu": {false, false, false},
	} {
		if got := [3]bool{IsHugePage(name), IsExtended(name), IsOvercommittable(name)}; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
