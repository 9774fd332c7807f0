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

	resourcev1 "k8s.io/api/resource/v1"
	resourcev1beta1 "k8s.io/api/resource/v1beta1"
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
