// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/api/admissionregistration/v1alpha1"
	resourcev1 "k8s.io/api/resource/v1"
	resourcev1beta1 "k8s.io/api/resource/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store/memory"
	"kogge.dev/kogge/testcluster"
)

const (
	oldTemplates = "/apis/resource.k8s.io/v1beta1/namespaces/default/resourceclaimtemplates"
	newTemplates = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates"
	oldService   = "v1beta1.resource.k8s.io"
)

// TestVersionsComeAndGo asks a cluster for an older version, uses it, and starts the cluster anew without it.
func TestVersionsComeAndGo(t *testing.T) {
	kept := memory.New()
	served, err := catalog.Serving(map[string]string{"resource.k8s.io/v1beta1": "true"})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("asked for", func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Store: kept, Catalog: served, Tokens: []authn.TokenAuthenticator{anybody{}}})
		awaitServices(t, c, func(names []string) bool { return slices.Contains(names, oldService) })
		answer := ask(t, c, "PATCH", oldTemplates+"/t?fieldManager=one", `{"apiVersion":"resource.k8s.io/v1beta1","kind":"ResourceClaimTemplate",
			"metadata":{"name":"t","labels":{"color":"red"}},"spec":{"spec":{"devices":{"requests":[{"name":"a","deviceClassName":"gpu"}]}}}}`)
		if answer.Code != http.StatusCreated || !strings.Contains(answer.Body.String(), `"deviceClassName":"gpu"`) {
			t.Fatalf("apply at v1beta1 = %d %s", answer.Code, answer.Body)
		}
		want := `299 - "resource.k8s.io/v1beta1 ResourceClaimTemplate is deprecated in v1.35+, unavailable in v1.38+"`
		if got := answer.Header().Values("Warning"); !slices.Contains(got, want) {
			t.Errorf("warnings = %q, want %q", got, want)
		}
		old, err := client.Of[*resourcev1beta1.ResourceClaimTemplate](c.Admin()).Get(t.Context(), "default", "t")
		if err != nil || old.Spec.Spec.Devices.Requests[0].DeviceClassName != "gpu" {
			t.Errorf("Get at v1beta1 = %+v, %v", old, err)
		}
	})
	t.Run("no more", func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Store: kept, Tokens: []authn.TokenAuthenticator{anybody{}}})
		awaitServices(t, c, func(names []string) bool { return len(names) > 0 && !slices.Contains(names, oldService) })
		if answer := ask(t, c, "GET", oldTemplates+"/t", ""); answer.Code != http.StatusNotFound {
			t.Errorf("GET at v1beta1 = %d %s, want 404", answer.Code, answer.Body)
		}
		if answer := ask(t, c, "GET", "/openapi/v3/apis/resource.k8s.io/v1beta1", ""); answer.Code != http.StatusNotFound {
			t.Errorf("OpenAPI of v1beta1 = %d, want 404", answer.Code)
		}
		now, err := client.Of[*resourcev1.ResourceClaimTemplate](c.Admin()).Get(t.Context(), "default", "t")
		if err != nil || now.Spec.Spec.Devices.Requests[0].Exactly.DeviceClassName != "gpu" {
			t.Fatalf("Get at v1 = %+v, %v", now, err)
		}
		// The manager is known by what it applied at the older version: others meet it, and it gives fields up.
		const body = `{"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaimTemplate","metadata":{"name":"t","labels":{"color":"blue"}}}`
		answer := ask(t, c, "PATCH", newTemplates+"/t?fieldManager=two", body)
		if answer.Code != http.StatusConflict || !strings.Contains(answer.Body.String(), `conflict with \"one\": .metadata.labels.color`) {
			t.Errorf("apply of another = %d %s, want a conflict", answer.Code, answer.Body)
		}
		answer = ask(t, c, "PATCH", newTemplates+"/t?fieldManager=one", strings.Replace(body, `"labels":{"color":"blue"}`, `"labels":{"size":"large"}`, 1))
		if answer.Code != http.StatusOK || strings.Contains(answer.Body.String(), `"color"`) {
			t.Errorf("apply of the same manager = %d %s, want no color", answer.Code, answer.Body)
		}
	})
}

// awaitServices waits until the names of the registered group-versions are as wanted.
func awaitServices(t *testing.T, c *testcluster.Cluster, ok func(names []string) bool) {
	t.Helper()
	testcluster.Await(t, c.Admin(), "", 30*time.Second, func(all []*apiregistrationv1.APIService) bool {
		var names []string
		for _, service := range all {
			names = append(names, service.Name)
		}
		return ok(names)
	})
}

// anybody takes every token for an administrator's.
type anybody struct{}

func (anybody) AuthenticateToken(_ context.Context, _ string, audiences []string) (*authn.TokenUser, bool, error) {
	return &authn.TokenUser{User: request.User{Name: "admin", Groups: []string{request.GroupMasters}}, Audiences: audiences}, true, nil
}

// ask sends a request as an administrator; patches are applies.
func ask(t *testing.T, c *testcluster.Cluster, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewBufferString(body))
	req.Header.Set("Content-Type", "application/apply-patch+yaml")
	req.Header.Set("Authorization", "Bearer anything")
	answer := httptest.NewRecorder()
	c.Handler().ServeHTTP(answer, req)
	return answer
}

// TestPoliciesSeeAskedForVersions makes policies for two versions: each object comes to them in theirs, whatever version the request is in.
func TestPoliciesSeeAskedForVersions(t *testing.T) {
	served, err := catalog.Serving(map[string]string{"api/all": "true"})
	if err != nil {
		t.Fatal(err)
	}
	c := testcluster.New(t, testcluster.Config{Catalog: served})
	validating := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "class"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{"resource.k8s.io"}, APIVersions: []string{"v1beta1"}, Resources: []string{"resourceclaims"}},
				},
			}}},
			Validations: []admissionregistrationv1.Validation{{Expression: "object.spec.devices.requests.all(r, r.deviceClassName != 'forbidden')", Message: "no such class"}},
		},
	}
	if _, err := client.Of[*admissionregistrationv1.ValidatingAdmissionPolicy](c.Admin()).Create(t.Context(), validating); err != nil {
		t.Fatal(err)
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "class"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "class", ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	if _, err := client.Of[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](c.Admin()).Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	// A mutating policy that is written at its oldest version, for the newest one of claims.
	mutating := &admissionregistrationv1alpha1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "label"},
		Spec: admissionregistrationv1alpha1.MutatingAdmissionPolicySpec{
			ReinvocationPolicy: admissionregistrationv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionregistrationv1alpha1.MatchResources{ResourceRules: []admissionregistrationv1alpha1.NamedRuleWithOperations{{
				RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{"resource.k8s.io"}, APIVersions: []string{"v1"}, Resources: []string{"resourceclaims"}},
				},
			}}},
			Mutations: []admissionregistrationv1alpha1.Mutation{{
				PatchType: admissionregistrationv1alpha1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionregistrationv1alpha1.ApplyConfiguration{
					Expression: `Object{metadata: Object.metadata{labels: {"class": object.spec.devices.requests[0].exactly.deviceClassName}}}`,
				},
			}},
		},
	}
	if _, err := client.Of[*admissionregistrationv1alpha1.MutatingAdmissionPolicy](c.Admin()).Create(t.Context(), mutating); err != nil {
		t.Fatal(err)
	}
	bound := &admissionregistrationv1alpha1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "label"}, Spec: admissionregistrationv1alpha1.MutatingAdmissionPolicyBindingSpec{PolicyName: "label"},
	}
	if _, err := client.Of[*admissionregistrationv1alpha1.MutatingAdmissionPolicyBinding](c.Admin()).Create(t.Context(), bound); err != nil {
		t.Fatal(err)
	}
	testcluster.Settle(t, c.Admin())
	flat := func(name, class string) *resourcev1beta1.ResourceClaim {
		return &resourcev1beta1.ResourceClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       resourcev1beta1.ResourceClaimSpec{Devices: resourcev1beta1.DeviceClaim{Requests: []resourcev1beta1.DeviceRequest{{Name: "a", DeviceClassName: class}}}},
		}
	}
	nested := &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "nested"},
		Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
			{Name: "a", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "forbidden"}},
		}}},
	}
	if _, err := client.Of[*resourcev1beta1.ResourceClaim](c.Admin()).Create(t.Context(), flat("flat", "forbidden")); err == nil || !strings.Contains(err.Error(), "no such class") {
		t.Errorf("create at v1beta1 = %v, want it to be denied", err)
	}
	if _, err := client.Of[*resourcev1.ResourceClaim](c.Admin()).Create(t.Context(), nested); err == nil || !strings.Contains(err.Error(), "no such class") {
		t.Errorf("create at v1 = %v, want it to be denied", err)
	}
	made, err := client.Of[*resourcev1beta1.ResourceClaim](c.Admin()).Create(t.Context(), flat("good", "gpu"))
	if err != nil || made.Labels["class"] != "gpu" || made.Spec.Devices.Requests[0].DeviceClassName != "gpu" {
		t.Errorf("create of a good claim = %+v, %v, want the label of the mutating policy", made, err)
	}
}
