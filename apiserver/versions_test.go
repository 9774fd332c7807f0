// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	resourcev1beta1 "k8s.io/api/resource/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/audit"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

// TestStoredAtAnOlderVersion reads what another server stored at a version that this one does not serve.
func TestStoredAtAnOlderVersion(t *testing.T) {
	old := &resourcev1beta1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "u"},
		Spec: resourcev1beta1.ResourceClaimSpec{Devices: resourcev1beta1.DeviceClaim{
			Requests: []resourcev1beta1.DeviceRequest{{Name: "a", DeviceClassName: "gpu", AllocationMode: resourcev1beta1.DeviceAllocationModeAll}},
		}},
	}
	data, err := codec.Envelope(resourcev1beta1.SchemeGroupVersion.WithKind("ResourceClaim"), old)
	if err != nil {
		t.Fatal(err)
	}
	kept := memory.New()
	if _, err := kept.Create(context.Background(), "/registry/resourceclaims/default/c", data, store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *apiserver.Config) { c.Store = kept })
	w := ask(t, s, http.MethodGet, "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c", nil)
	if want := `"exactly":{"deviceClassName":"gpu","allocationMode":"All"}`; w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
		t.Errorf("GET at v1 = %d %s, want %s", w.Code, w.Body, want)
	}
}

// TestDeprecatedVersionIsTold holds the warning, the audit annotations and the metric of a version that will go.
func TestDeprecatedVersionIsTold(t *testing.T) {
	var recorded events
	auditor, err := audit.New([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]"), recorded.sink)
	if err != nil {
		t.Fatal(err)
	}
	served, err := catalog.Serving(map[string]string{"resource.k8s.io/v1beta1": "true"})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *apiserver.Config) { c.Audit, c.Catalog = auditor, served })
	for _, test := range []struct{ version, warning, removed string }{
		{"v1beta1", `299 - "resource.k8s.io/v1beta1 DeviceClass is deprecated in v1.35+, unavailable in v1.38+"`, "1.38"},
		{"v1", "", ""},
	} {
		w := ask(t, s, http.MethodGet, "/apis/resource.k8s.io/"+test.version+"/deviceclasses/"+test.version, nil)
		if got := w.Header().Get("Warning"); got != test.warning {
			t.Errorf("%s: warning %q, want %q", test.version, got, test.warning)
		}
		told := recorded.last(t, test.version, auditv1.StageResponseComplete).Annotations
		if (told["k8s.io/deprecated"] == "true") != (test.removed != "") || told["k8s.io/removed-release"] != test.removed {
			t.Errorf("%s: audit annotations %v", test.version, told)
		}
	}
	const want = `apiserver_requested_deprecated_apis{group="resource.k8s.io",removed_release="1.38",resource="deviceclasses",subresource="",version="v1beta1"} 1`
	if metrics := ask(t, s, http.MethodGet, "/metrics", nil).Body.String(); !strings.Contains(metrics, want) {
		t.Errorf("metrics lack %s", want)
	}
}

// TestStoredInAnotherForm holds that mutating policies are stored as upstream stores them, and that what was stored at their newest version is read.
func TestStoredInAnotherForm(t *testing.T) {
	old := &admissionregistrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "old", UID: "u"},
		Spec:       admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "p"},
	}
	data, err := codec.Envelope(admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicyBinding"), old)
	if err != nil {
		t.Fatal(err)
	}
	const folder, path = "/registry/mutatingadmissionpolicybindings/", "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings"
	kept := memory.New()
	if _, err := kept.Create(t.Context(), folder+"old", data, store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *apiserver.Config) { c.Store = kept })
	body := `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingAdmissionPolicyBinding","metadata":{"name":"new"},"spec":{"policyName":"p"}}`
	if w := ask(t, s, http.MethodPost, path, strings.NewReader(body), "Content-Type", "application/json"); w.Code != http.StatusCreated {
		t.Fatalf("POST = %d %s", w.Code, w.Body)
	}
	for _, name := range []string{"old", "new"} {
		w := ask(t, s, http.MethodGet, path+"/"+name, nil)
		if want := `"policyName":"p"`; w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) || !strings.Contains(w.Body.String(), `"apiVersion":"admissionregistration.k8s.io/v1"`) {
			t.Errorf("GET %s = %d %s, want %s at v1", name, w.Code, w.Body, want)
		}
	}
	record, _, err := kept.Get(t.Context(), folder+"new")
	if err != nil {
		t.Fatal(err)
	}
	if gvk, err := codec.TypeOf(record.Value); err != nil || gvk.Version != "v1beta1" {
		t.Errorf("stored as %v, %v; want v1beta1", gvk, err)
	}
	if w := ask(t, s, http.MethodGet, "/apis/admissionregistration.k8s.io/v1", nil); !strings.Contains(w.Body.String(), `"storageVersionHash":"90V5FRZZ3Zg="`) {
		t.Errorf("discovery does not name upstream's version: %s", w.Body)
	}
}
