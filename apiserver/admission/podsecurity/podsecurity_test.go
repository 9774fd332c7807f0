// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podsecurity_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/admission/podsecurity"
	"kogge.dev/kogge/apiserver/request"
)

const configuration = `
apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: baseline, warn: restricted}
exemptions: {namespaces: [free], usernames: [root], runtimeClasses: [sealed]}
`

func namespace(name string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func pod(namespace string, privileged bool, class *string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"},
		Spec: corev1.PodSpec{RuntimeClassName: class, Containers: []corev1.Container{{
			Name: "c", SecurityContext: &corev1.SecurityContext{Privileged: &privileged},
		}}},
	}
}

// judge asks about the creation of an object, or its change from old.
func judge(t *testing.T, p *podsecurity.Plugin, user, resource string, obj, old runtime.Object) (state *request.State, err error) {
	t.Helper()
	state = &request.State{}
	a := &admission.Attributes{
		Operation: admission.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: resource}, Object: obj, Old: old, User: request.User{Name: user},
	}
	if old != nil {
		a.Operation = admission.Update
	}
	a.Name, a.Namespace = a.Meta().GetName(), a.Meta().GetNamespace()
	return state, p.Validate(request.With(context.Background(), state), a)
}

func TestConfiguration(t *testing.T) {
	c, err := podsecurity.Read([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	reader := admissiontest.NewReader(
		namespace("plain", nil), namespace("open", map[string]string{"pod-security.kubernetes.io/enforce": "privileged"}), namespace("free", nil),
	)
	p, err := podsecurity.New(reader, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, user string
		pod        *corev1.Pod
		refused    bool
		exempt     string
	}{
		{"default", "u", pod("plain", true, nil), true, ""},
		{"default, harmless", "u", pod("plain", false, nil), false, ""},
		{"labels", "u", pod("open", true, nil), false, ""},
		{"exempt namespace", "u", pod("free", true, nil), false, "namespace"},
		{"exempt user", "root", pod("plain", true, nil), false, "user"},
		{"exempt runtime class", "u", pod("plain", true, new("sealed")), false, "runtimeClass"},
		{"another runtime class", "u", pod("plain", true, new("open")), true, ""},
	} {
		state, err := judge(t, p, test.user, "pods", test.pod, nil)
		if (err != nil) != test.refused || err != nil && !strings.Contains(err.Error(), `violates PodSecurity "baseline:latest"`) {
			t.Errorf("%s: %v, want it refused: %v", test.name, err, test.refused)
		}
		if got := state.Annotations["pod-security.kubernetes.io/exempt"]; got != test.exempt {
			t.Errorf("%s: exempt for %q, want %q", test.name, got, test.exempt)
		}
		if warned := len(state.Warnings) > 0; warned != (test.name == "default, harmless" || test.name == "labels") {
			t.Errorf("%s: warnings %q", test.name, state.Warnings)
		}
	}
}

// Labels of an exempt namespace say nothing, which is told; in others they must be right.
func TestNamespaces(t *testing.T) {
	c, err := podsecurity.Read([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	p, err := podsecurity.New(admissiontest.NewReader(pod("strict", true, nil)), c)
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
	for _, test := range []struct {
		name     string
		obj, old *corev1.Namespace
		warning  string
		refused  bool
	}{
		{"exempt", namespace("free", labels), nil, `namespace "free" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored`, false},
		{"exempt, changed", namespace("free", labels), namespace("free", nil), `namespace "free" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored`, false},
		{"exempt, without labels", namespace("free", nil), nil, "", false},
		{"stricter than its pods", namespace("strict", labels), namespace("strict", nil), `existing pods in namespace "strict" violate the new PodSecurity enforce level "restricted:latest"`, false},
		{"unknown level", namespace("n", map[string]string{"pod-security.kubernetes.io/enforce": "hard"}), nil, "", true},
	} {
		var old runtime.Object
		if test.old != nil {
			old = test.old
		}
		state, err := judge(t, p, "u", "namespaces", test.obj, old)
		if (err != nil) != test.refused {
			t.Errorf("%s: %v, want it refused: %v", test.name, err, test.refused)
		}
		if got := strings.Join(state.Warnings, "\n"); !strings.HasPrefix(got, test.warning) || test.warning == "" && got != "" {
			t.Errorf("%s: warnings %q, want %q", test.name, got, test.warning)
		}
	}
}

func TestUpdates(t *testing.T) {
	c, err := podsecurity.Read([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = "privileged"
	}
	p, err := podsecurity.New(admissiontest.NewReader(namespace("plain", nil), namespace("wide", labels)), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, namespace, subresource string
		change                       func(*corev1.Pod)
		refused                      bool
		policy                       string
	}{
		{"labels", "plain", "", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, false, ""},
		{"node selector", "plain", "", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, false, ""},
		{"image", "plain", "", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, true, "baseline:latest"},
		{"container", "plain", "", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "i"}} }, true, "baseline:latest"},
		{"ephemeral container", "plain", "ephemeralcontainers", func(p *corev1.Pod) { p.Spec.EphemeralContainers = make([]corev1.EphemeralContainer, 1) }, true, "baseline:latest"},
		{"size", "plain", "resize", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{} }, false, ""},
		{"image in a resize", "plain", "resize", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, true, "baseline:latest"},
		{"status", "wide", "status", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, false, ""},
		{"labels where all is allowed", "wide", "", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, false, "privileged:latest"},
		{"size where all is allowed", "wide", "resize", func(*corev1.Pod) {}, false, "privileged:latest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			old := pod(test.namespace, true, nil)
			changed := old.DeepCopy()
			test.change(changed)
			state := &request.State{}
			err := p.Validate(request.With(t.Context(), state), &admission.Attributes{
				Operation: admission.Update, Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Subresource: test.subresource,
				Namespace: test.namespace, Name: "p", Object: changed, Old: old, User: request.User{Name: "u"},
			})
			if (err != nil) != test.refused {
				t.Errorf("Validate() = %v, want refused: %t", err, test.refused)
			}
			if got := state.Annotations["pod-security.kubernetes.io/enforce-policy"]; got != test.policy {
				t.Errorf("policy in the audit log = %q, want %q", got, test.policy)
			}
		})
	}
}
