// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/admission/configured"
	"kogge.dev/kogge/apiserver/admission/eventratelimit"
	"kogge.dev/kogge/apiserver/admission/plugins"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/testcluster"
)

// TestChosenAdmission switches two plugins on and one off.
func TestChosenAdmission(t *testing.T) {
	limits := &eventratelimit.Configuration{Limits: []eventratelimit.Limit{{Type: eventratelimit.User, QPS: 1, Burst: 1}}}
	c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}, Admission: plugins.Choice{
		Enabled: []string{"EventRateLimit", "DenyServiceExternalIPs"}, Disabled: []string{"ServiceAccount"}, Configured: configured.Plugins{EventRateLimit: limits},
	}}).Admin()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"},
		Spec:       corev1.ServiceSpec{ExternalIPs: []string{"192.0.2.7"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if _, err := client.Of[*corev1.Service](c).Create(t.Context(), service); !apierrors.IsForbidden(err) {
		t.Errorf("Service with an external address: %v, want forbidden", err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if made, err := client.Of[*corev1.Pod](c).Create(t.Context(), pod); err != nil || len(made.Spec.Volumes) != 0 {
		t.Errorf("pod without the plugin ServiceAccount: %v, %v, want it made without a token", made, err)
	}
	var err error
	for range 20 { // one a second passes
		_, err = client.Of[*corev1.Event](c).Create(t.Context(), &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "default", Name: "p"},
		})
		if err != nil {
			break
		}
	}
	if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "limit reached on type User for key admin") {
		t.Errorf("twenty events at once: %v, want the user's limit to be reached", err)
	}
}

// TestWebhookBlocksItsBackend has a webhook without a backend refuse the pod that would be one. That it refuses another pod is its right, and
// told of in no event.
func TestWebhookBlocksItsBackend(t *testing.T) {
	c := testcluster.New(t).Admin()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "judge"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "judge"}, Ports: []corev1.ServicePort{{Port: 443}}},
	}
	if _, err := client.Of[*corev1.Service](c).Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	all, none := admissionregistrationv1.AllScopes, admissionregistrationv1.SideEffectClassNone
	hook := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "judges"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "judge.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "default", Name: "judge"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}, Scope: &all},
			}},
		}},
	}
	if _, err := client.Of[*admissionregistrationv1.ValidatingWebhookConfiguration](c).Create(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	create := func(app string) error {
		_, err := client.Of[*corev1.Pod](c).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app, Labels: map[string]string{"app": app}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		})
		return err
	}
	testcluster.Settle(t, c)
	if err := create("other"); !apierrors.IsInternalError(err) {
		t.Fatalf("another pod: %v, want it refused", err)
	}
	if err := create("judge"); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `failed calling webhook "judge.example.com"`) {
		t.Fatalf("pod of the webhook's backend: %v, want it refused", err)
	}
	events := testcluster.Await(t, c, "default", 10*time.Second, func(all []*corev1.Event) bool { return len(about(all, "judges")) > 0 })
	for _, e := range about(events, "judges") {
		if e.InvolvedObject.Kind != "ValidatingWebhookConfiguration" || e.Reason != "WebhookBlocksItsBackend" || e.Count != 1 ||
			!strings.Contains(e.Message, "calls of webhook judge.example.com fail, which refuses pods of its own Service default/judge") {
			t.Errorf("event %s of %s, %d times: %s", e.Reason, e.InvolvedObject.Kind, e.Count, e.Message)
		}
	}
}

func about(all []*corev1.Event, name string) (out []*corev1.Event) {
	for _, e := range all {
		if e.InvolvedObject.Name == name {
			out = append(out, e)
		}
	}
	return out
}
