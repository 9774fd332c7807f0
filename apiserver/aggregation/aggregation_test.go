// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package aggregation

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/aggregation/route"
	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/apiserver/request"
)

func apiService() *apiregistrationv1.APIService {
	return &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: "v1alpha1.wardle.example.com"},
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "wardle.example.com", Version: "v1alpha1", InsecureSkipTLSVerify: true, GroupPriorityMinimum: 2000,
			Service: &apiregistrationv1.ServiceReference{Namespace: "ns", Name: "api"},
		},
	}
}

// remoteServer is an extension API server on loopback behind a Service of the map.
func remoteServer(t *testing.T, handler http.HandlerFunc, ready bool) *remote {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	objects := admissiontest.NewReader(
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "api"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}}},
		&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "api-1", Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
			Ports:      []discoveryv1.EndpointPort{{Port: new(int32(8443))}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		},
	)
	routes := &route.Resolver{Reader: objects, Connect: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "10.0.0.1:8443" {
			t.Errorf("connects to %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(s.URL, "https://"))
	}}
	r, err := newRemote(apiService(), routes, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func TestProxyNamesTheUser(t *testing.T) {
	var got http.Header
	r := remoteServer(t, func(w http.ResponseWriter, req *http.Request) {
		got = req.Header
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"path":"` + req.URL.Path + `"}`))
	}, true)
	ask := func() *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodGet, "https://front/apis/wardle.example.com/v1alpha1/flunders", nil)
		req.Header.Set("Authorization", "Bearer secret")
		req.Header.Set("X-Remote-User", "forged")
		state := &request.State{User: request.User{Name: "jane", Groups: []string{"a", "b"}, Extra: map[string][]string{"acme/x": {"1"}}}, AuditID: "id"}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req.WithContext(request.With(req.Context(), state)))
		return w
	}
	if w := ask(); w.Code != http.StatusServiceUnavailable {
		t.Errorf("an unchecked server is asked: %d", w.Code)
	}
	r.available.Store(true)
	if w := ask(); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "/apis/wardle.example.com/v1alpha1/flunders") {
		t.Errorf("answer = %d %s", w.Code, w.Body)
	}
	want := map[string][]string{"X-Remote-User": {"jane"}, "X-Remote-Group": {"a", "b"}, "X-Remote-Extra-Acme%2fx": {"1"}, "Audit-Id": {"id"}, "Authorization": nil}
	for h, values := range want {
		if diff := cmp.Diff(values, got.Values(h)); diff != "" {
			t.Errorf("%s (-want +got):\n%s\nall: %v", h, diff, got)
		}
	}
}

func TestCheckAndDiscover(t *testing.T) {
	status := http.StatusOK
	r := remoteServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch req.URL.Path {
		case "/apis/wardle.example.com/v1alpha1":
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(metav1.APIResourceList{APIResources: []metav1.APIResource{
				{Name: "flunders", Kind: "Flunder", Namespaced: true, Verbs: []string{"get"}}, {Name: "flunders/status", Kind: "Flunder", Verbs: []string{"update"}},
			}})
		case "/openapi/v3/apis/wardle.example.com/v1alpha1":
			_, _ = w.Write([]byte(`{"paths":{"/x":{}},"components":{"schemas":{"a.B":{"type":"object"}}}}`))
		default:
			http.NotFound(w, req)
		}
	}, true)
	if c := r.check(t.Context()); c.Status != apiregistrationv1.ConditionTrue || c.Reason != "Passed" {
		t.Errorf("condition = %+v", c)
	}
	if err := r.discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := &Aggregator{cfg: Config{Registry: discovery.NewRegistry()}, remotes: map[schema.GroupVersion]*remote{{Group: "wardle.example.com", Version: "v1alpha1"}: r}}
	g.publish()
	f := r.found.Load()
	if len(f.version.Resources) != 1 || f.version.Resources[0].Subresources[0].Subresource != "status" || len(f.openapi.Make().Schemas) != 1 {
		t.Errorf("found %+v", f)
	}
	status = http.StatusInternalServerError
	if c := r.check(t.Context()); c.Status != apiregistrationv1.ConditionFalse || c.Reason != "FailedDiscoveryCheck" {
		t.Errorf("condition of a failing server = %+v", c)
	}
}

func TestConditionsOfUnreachableServers(t *testing.T) {
	r := remoteServer(t, http.NotFound, false)
	if c := r.check(t.Context()); c.Reason != "MissingEndpoints" {
		t.Errorf("without endpoints: %+v", c)
	}
	port := int32(444)
	r.spec.Service.Port = &port
	if c := r.check(t.Context()); c.Reason != "ServicePortError" || c.Message != `service/api in "ns" is not listening on port 444` {
		t.Errorf("another port: %+v", c)
	}
	r.spec.Service.Name = "gone"
	if c := r.check(t.Context()); c.Reason != "ServiceNotFound" || c.Message != `service/gone in "ns" is not present` {
		t.Errorf("no service: %+v", c)
	}
}
