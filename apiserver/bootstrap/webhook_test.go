// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
)

// hookServer answers admission reviews over TLS on loopback.
func hookServer(t *testing.T, answer func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) (url string, ca []byte) {
	t.Helper()
	mux := http.NewServeMux() // which redirects from paths that are not clean
	s := httptest.NewTLSServer(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = answer(review.Request)
		review.Response.UID = review.Request.UID
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.Close)
	return s.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func configMapRules() []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{"CREATE"},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
	}}
}

func TestWebhooks(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	none := admissionregistrationv1.SideEffectClassNone
	var calls atomic.Int32
	jsonPatch := admissionv1.PatchTypeJSONPatch
	mutate, ca := hookServer(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		calls.Add(1)
		if !strings.Contains(string(r.Object.Raw), `"apiVersion":"v1"`) {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: "object without version: " + string(r.Object.Raw)}}
		}
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &jsonPatch, Patch: []byte(`[{"op":"add","path":"/data","value":{"by":"hook"}}]`)}
	})
	validate, ca2 := hookServer(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		if !strings.Contains(string(r.Object.Raw), `"by":"hook"`) {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: "not mutated before"}}
		}
		if strings.HasPrefix(r.Name, "bad") {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: "bad name", Code: 403}}
		}
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	condition := []admissionregistrationv1.MatchCondition{{Name: "not-skipped", Expression: "!object.metadata.name.startsWith('skip')"}}
	mutate += "//hook" // as envtest joins them
	create(t, admin, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "m"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "m.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &mutate, CABundle: ca}, Rules: configMapRules(),
			SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, MatchConditions: condition,
		}},
	})
	create(t, admin, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "v"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "v.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &validate, CABundle: ca2}, Rules: configMapRules(),
			SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, MatchConditions: condition,
		}},
	})
	maps := client.Of[*corev1.ConfigMap](admin)
	made := func(name string) (*corev1.ConfigMap, error) {
		return maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
	}
	eventually(t, func() string {
		_, err := made("bad-one")
		if err == nil || !strings.Contains(err.Error(), `admission webhook "v.example.com" denied the request: bad name`) {
			_ = maps.Delete(t.Context(), "default", "bad-one", metav1.DeleteOptions{})
			return errText(err)
		}
		return ""
	})
	got, err := made("good")
	if err != nil || got.Data["by"] != "hook" {
		t.Errorf("created = %v, %v", got, err)
	}
	before := calls.Load()
	if got, err := made("skip-me"); err != nil || len(got.Data) != 0 || calls.Load() != before {
		t.Errorf("skipped object = %v, %v after %d calls", got, err, calls.Load()-before)
	}
	gone := "https://127.0.0.1:1/"
	fail := admissionregistrationv1.Fail
	create(t, admin, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "w"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "gone.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &gone, CABundle: ca}, Rules: configMapRules(),
			SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, FailurePolicy: &fail,
		}},
	})
	eventually(t, func() string {
		_, err := made("refused")
		if err == nil || !strings.Contains(err.Error(), `Internal error occurred: failed calling webhook "gone.example.com": failed to call webhook: Post "https://127.0.0.1:1/?timeout=10s"`) {
			_ = maps.Delete(t.Context(), "default", "refused", metav1.DeleteOptions{})
			return errText(err)
		}
		return ""
	})
}

// A hook is asked once about an update that changes nothing, in which it sees the name, and without one about each object of a collection.
func TestWhatWebhooksAreAsked(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	asked := make(chan *admissionv1.AdmissionRequest, 100)
	address, ca := hookServer(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		asked <- r
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	rules := configMapRules()
	rules[0].Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll}
	create(t, admin, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "v"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "v.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &address, CABundle: ca}, Rules: rules,
			SideEffects: new(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"asked": "yes"}},
		}},
	})
	maps := client.Of[*corev1.ConfigMap](admin)
	one := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one", Labels: map[string]string{"asked": "yes"}}}
	eventually(t, func() string {
		_ = maps.Delete(t.Context(), "default", "one", metav1.DeleteOptions{})
		if _, err := maps.Create(t.Context(), one); err != nil {
			return err.Error()
		}
		select {
		case r := <-asked:
			if r.Operation == admissionv1.Create {
				return ""
			}
		default:
		}
		return "the hook was not asked"
	})
	for len(asked) > 0 {
		<-asked
	}
	if _, err := maps.Update(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if r := <-asked; r.Operation != admissionv1.Update || r.Name != "one" || len(asked) > 0 {
		t.Errorf("%s of %q, and %d more; want one update of one", r.Operation, r.Name, len(asked))
	}
	if err := maps.DeleteCollection(t.Context(), "default", metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "asked=yes"}); err != nil {
		t.Fatal(err)
	}
	if r := <-asked; r.Operation != admissionv1.Delete || r.Name != "" || !strings.Contains(string(r.OldObject.Raw), `"name":"one"`) || len(asked) > 0 {
		t.Errorf("%s of %q, which was %s, and %d more; want one deletion of what has no name", r.Operation, r.Name, r.OldObject.Raw, len(asked))
	}
}

// What can't be applied of a hook's patch refuses the request even where failures are overlooked; nor may it move an object.
func TestPatchesOfWebhooksMustApply(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	patch := admissionv1.PatchTypeJSONPatch
	address, ca := hookServer(t, func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		text := `[{"op":"remove","path":"/data/nothing"}]`
		if r.Name == "moved" {
			text = `[{"op":"replace","path":"/metadata/namespace","value":"kube-system"}]`
		}
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &patch, Patch: []byte(text)}
	})
	create(t, admin, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "m"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "m.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &address, CABundle: ca}, Rules: configMapRules(),
			SideEffects: new(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"}, FailurePolicy: new(admissionregistrationv1.Ignore),
		}},
	})
	maps := client.Of[*corev1.ConfigMap](admin)
	for name, want := range map[string]string{
		"patched": "Internal error occurred: remove operation does not apply: doc is missing path",
		"moved":   "the namespace of the provided object does not match the namespace sent on the request",
	} {
		eventually(t, func() string {
			_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
			if err == nil || !strings.Contains(err.Error(), want) {
				_ = maps.Delete(t.Context(), "default", name, metav1.DeleteOptions{})
				return errText(err)
			}
			return ""
		})
	}
}

func TestServicesAreResolvedByEndpoints(t *testing.T) {
	p := newPlane(t)
	admin := p.admin()
	create(t, admin, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hook"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
	})
	eventually(t, func() string {
		_, err := p.routes.Resolve(t.Context(), "default", "hook", 443)
		if err == nil || !strings.Contains(err.Error(), `no endpoints available for service "hook"`) {
			return errText(err)
		}
		return ""
	})
	create(t, admin, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "hook-1", Labels: map[string]string{discoveryv1.LabelServiceName: "hook"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("https"), Port: new(int32(8443))}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{"10.0.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: new(false)}},
		},
	})
	eventually(t, func() string {
		got, err := p.routes.Resolve(t.Context(), "default", "hook", 443)
		if err != nil || len(got) != 2 || got[0] != "10.0.0.1:8443" {
			return strings.Join(got, " ") + errText(err)
		}
		return ""
	})
}

// hostConverter converts Hosts: what is host at v2 and v3 is hostPort at v1. It says more of the status than there is, as from a Go type without omitempty.
func hostConverter(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review apiextensionsv1.ConversionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		for _, raw := range review.Request.Objects {
			var u unstructured.Unstructured
			if err := u.UnmarshalJSON(raw.Raw); err != nil || u.GetName() == "" {
				t.Errorf("asked to convert %s, %v", raw.Raw, err)
			}
			u.SetAPIVersion(review.Request.DesiredAPIVersion)
			from, to := "hostPort", "host"
			if strings.HasSuffix(review.Request.DesiredAPIVersion, "/v1") {
				from, to = "host", "hostPort"
			}
			u.Object[to] = u.Object[from]
			delete(u.Object, from)
			if status, _ := u.Object["status"].(map[string]any); status["used"] == nil {
				u.Object["status"] = map[string]any{"used": nil, "of": review.Request.DesiredAPIVersion}
			}
			response.ConvertedObjects = append(response.ConvertedObjects, runtime.RawExtension{Object: &u})
		}
		review.Request, review.Response = nil, response
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestConversionByWebhook(t *testing.T) {
	p := newPlane(t)
	admin, s := p.admin(), hostConverter(t)
	version := func(name, field string) apiextensionsv1.CustomResourceDefinitionVersion {
		status := map[string]apiextensionsv1.JSONSchemaProps{"used": {Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Type: "string"}}}}
		return apiextensionsv1.CustomResourceDefinitionVersion{
			Name: name, Served: true, Storage: name == "v1", Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
				Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{field: {Type: "string", MaxLength: new(int64(3))}, "status": {Type: "object", Properties: status}},
			}},
		}
	}
	bare := version("v3", "host")
	bare.Subresources = nil
	create(t, admin, &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "hosts.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.ClusterScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "hosts", Singular: "host", Kind: "Host", ListKind: "HostList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version("v1", "hostPort"), version("v2", "host"), bare},
			Conversion: &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter, Webhook: &apiextensionsv1.WebhookConversion{
				ClientConfig:             &apiextensionsv1.WebhookClientConfig{URL: &s.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})},
				ConversionReviewVersions: []string{"v1"},
			}},
		},
	})
	at := func(version string) client.Resource[*unstructured.Unstructured] {
		return client.At(admin, schema.GroupVersionResource{Group: "example.com", Version: version, Resource: "hosts"}, func() *unstructured.Unstructured { return &unstructured.Unstructured{} })
	}
	eventually(t, func() string {
		_, err := at("v1").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Host", "metadata": map[string]any{"name": "a"}, "hostPort": "x:1",
		}})
		if err != nil {
			return err.Error()
		}
		return ""
	})
	got, err := at("v2").Get(t.Context(), "", "a")
	if err != nil || got.Object["host"] != "x:1" || got.GetAPIVersion() != "example.com/v2" {
		t.Errorf("at v2 = %v, %v", got, err)
	}
	if _, err := at("v2").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v2", "kind": "Host", "metadata": map[string]any{"name": "b"}, "host": "y:2",
	}}); err != nil {
		t.Fatal(err)
	}
	if got, err = at("v1").Get(t.Context(), "", "b"); err != nil || got.Object["hostPort"] != "y:2" {
		t.Errorf("at v1 = %v, %v", got, err)
	}
	for _, v := range []string{"v1", "v2"} { // What a version does not know, and null where it may not be, goes when the webhook has answered.
		if got, err = at(v).Get(t.Context(), "", "b"); err != nil || !cmp.Equal(got.Object["status"], any(map[string]any{})) {
			t.Errorf("status at %s = %v, %v, want it empty", v, got.Object["status"], err)
		}
	}
	if managers := got.GetManagedFields(); len(managers) != 1 || managers[0].APIVersion != "example.com/v2" {
		t.Errorf("managers of what was created at v2: %v, want one of v2", managers)
	}
	got.Object["host"] = "z:3"
	if got, err = at("v2").Update(t.Context(), got); err != nil || got.Object["host"] != "z:3" {
		t.Errorf("updated at v2 = %v, %v", got, err)
	}
	got.Object["host"] = "too long"
	if _, err = at("v2").Update(t.Context(), got); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "host: Too long") {
		t.Errorf("update at v2 that its schema refuses: %v, want it to name the field of v2", err)
	}
	if got, err = at("v3").Get(t.Context(), "", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err = at("v3").UpdateStatus(t.Context(), got); !apierrors.IsNotFound(err) {
		t.Errorf("update of the status at v3, which has no such subresource: %v, want not found", err)
	}
	s.Close() // A definition goes with its objects, though nobody converts them any more.
	if err := at("v2").Delete(t.Context(), "", "b", metav1.DeleteOptions{}); err == nil || !strings.Contains(err.Error(), "conversion webhook") {
		t.Errorf("delete at v2 without the webhook: %v, want it to say what failed", err)
	}
	definitions := client.Of[*apiextensionsv1.CustomResourceDefinition](admin)
	if err := definitions.Delete(t.Context(), "", "hosts.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		left, err := definitions.Get(t.Context(), "", "hosts.example.com")
		if apierrors.IsNotFound(err) {
			return ""
		}
		return fmt.Sprint("definition is still there: ", left.Status.Conditions, err)
	})
}
