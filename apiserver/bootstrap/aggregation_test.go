// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/client"
)

func TestGroupVersionsHaveAPIServices(t *testing.T) {
	p := newPlane(t)
	services := client.Of[*apiregistrationv1.APIService](p.admin())
	eventually(t, func() string {
		got, err := services.Get(t.Context(), "", "v1.apps")
		if err != nil {
			return err.Error()
		}
		if len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Reason != "Local" {
			return "no Local condition"
		}
		_, err = services.Get(t.Context(), "", "v1.")
		return strings.ReplaceAll(errText(err), "no error", "")
	})
}

// An APIService of this server that somebody changed gets its spec back at the next look at all of them; what else is in it stays.
func TestAPIServicesAreRestored(t *testing.T) {
	p := newPlane(t)
	services := client.Of[*apiregistrationv1.APIService](p.admin())
	var before *apiregistrationv1.APIService
	eventually(t, func() string {
		var err error
		before, err = services.Get(t.Context(), "", "v1.apps")
		return strings.ReplaceAll(errText(err), "no error", "")
	})
	changed := before.DeepCopy()
	changed.Spec.VersionPriority++
	changed.Annotations = map[string]string{"keep": "me"}
	if _, err := services.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		// Whose coming back makes it look.
		if err := services.Delete(t.Context(), "", "v1.batch", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		got, err := services.Get(t.Context(), "", "v1.apps")
		switch {
		case err != nil:
			return err.Error()
		case got.Spec.VersionPriority != before.Spec.VersionPriority:
			return "the spec is as it was changed"
		case got.Annotations["keep"] != "me" || got.UID != before.UID || len(got.ManagedFields) < len(before.ManagedFields):
			t.Fatalf("restored as %+v", got)
		}
		return ""
	})
	eventually(t, func() string {
		_, err := services.Get(t.Context(), "", "v1.batch")
		return strings.ReplaceAll(errText(err), "no error", "")
	})
}

func TestRemoteGroupVersion(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta:     metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"},
			APIResources: []metav1.APIResource{{Name: "flunders", Kind: "Flunder", Namespaced: true, Verbs: []string{"get"}}},
		})
	}))
	t.Cleanup(s.Close)
	p.routes.Connect = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(s.URL, "https://"))
	}
	create(t, admin, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "api"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}})
	create(t, admin, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "api-1", Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("https"), Port: new(int32(8443))}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}},
	})
	create(t, admin, &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1alpha1.wardle.example.com"},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "wardle.example.com", Version: "v1alpha1", GroupPriorityMinimum: 2000, VersionPriority: 200, InsecureSkipTLSVerify: true,
			Service: &apiregistrationv1.ServiceReference{Namespace: "default", Name: "api"},
		},
	})
	eventually(t, func() string {
		got, err := client.Of[*apiregistrationv1.APIService](admin).Get(t.Context(), "", "v1alpha1.wardle.example.com")
		if err != nil {
			return err.Error()
		}
		if len(got.Status.Conditions) == 0 || got.Status.Conditions[0].Status != apiregistrationv1.ConditionTrue {
			return "not available"
		}
		return ""
	})
	reason := func(want string) {
		t.Helper()
		eventually(t, func() string {
			got, err := client.Of[*apiregistrationv1.APIService](admin).Get(t.Context(), "", "v1alpha1.wardle.example.com")
			if err != nil || got.Status.Conditions[0].Reason != want {
				return "the condition's reason is not " + want
			}
			return ""
		})
	}
	h := p.aggregator.Handler(schema.GroupVersion{Group: "wardle.example.com", Version: "v1alpha1"})
	if h == nil {
		t.Fatal("no handler for the remote group-version")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/apis/wardle.example.com/v1alpha1", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "flunders") {
		t.Errorf("proxied: %d %s", w.Code, w.Body)
	}
	// Its endpoints go and come back: that is seen at once, not when it is asked again.
	slices := client.Of[*discoveryv1.EndpointSlice](admin)
	ready := func(ready string) {
		t.Helper()
		patch := `[{"op":"add","path":"/endpoints/0/conditions","value":{"ready":` + ready + `}}]`
		if _, err := slices.Patch(t.Context(), "default", "api-1", types.JSONPatchType, []byte(patch)); err != nil {
			t.Fatal(err)
		}
	}
	ready("false")
	reason("MissingEndpoints")
	ready("true")
	reason("Passed")
}

func TestPolicyMergesAnApplyConfiguration(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	create(t, admin, &admissionregistrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "labels"},
		Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{
			ReinvocationPolicy: admissionregistrationv1.IfNeededReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: configMapRules()[0]}},
			},
			Variables: []admissionregistrationv1.Variable{{Name: "who", Expression: "request.userInfo.username"}},
			Mutations: []admissionregistrationv1.Mutation{{
				PatchType:          admissionregistrationv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{Expression: `Object{metadata: Object.metadata{labels: {"by": variables.who}}}`},
			}},
		},
	})
	create(t, admin, &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "labels"}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "labels"},
	})
	eventually(t, func() string {
		got, err := client.Of[*corev1.ConfigMap](admin).Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "m-", Labels: map[string]string{"own": "kept"}}, Data: map[string]string{"a": "b"},
		})
		if err != nil || got.Labels["by"] != "admin" || got.Labels["own"] != "kept" || got.Data["a"] != "b" {
			return "created " + errText(err)
		}
		return ""
	})
	// One that makes what the schema does not have is refused like upstream's.
	policies := client.Of[*admissionregistrationv1.MutatingAdmissionPolicy](admin)
	policy, err := policies.Get(t.Context(), "", "labels")
	if err != nil {
		t.Fatal(err)
	}
	policy = policy.DeepCopy()
	policy.Spec.Mutations[0].ApplyConfiguration.Expression = `Object{nope: 1}`
	if _, err := policies.Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		_, err := client.Of[*corev1.ConfigMap](admin).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "m-"}})
		status, ok := errors.AsType[*apierrors.StatusError](err)
		if !ok || status.ErrStatus.Code != http.StatusForbidden || status.ErrStatus.Reason != metav1.StatusReasonInvalid ||
			!strings.HasPrefix(status.ErrStatus.Message, "policy 'labels' with binding 'labels' denied request: ") || len(status.ErrStatus.Details.Causes) != 1 {
			return "created " + errText(err)
		}
		return ""
	})
}
