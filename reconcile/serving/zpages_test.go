// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serving_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"kogge.dev/kogge/reconcile/serving"
)

func TestPages(t *testing.T) {
	p := &serving.Pages{Component: "apiserver", Started: time.Now().Add(-time.Hour - 61*time.Second), Paths: []string{"/flagz", "/statusz"}, Flags: map[string]string{"secure-port": "6443", "a": "b"}}
	for _, c := range []struct {
		page, accept string
		code         int
		kind, want   string
	}{
		{"Statusz", "", http.StatusOK, "text/plain; charset=utf-8", "\napiserver statusz\n"},
		{"Statusz", "text/html,*/*;q=0.1", http.StatusOK, "text/plain; charset=utf-8", "Up= 1 hr 01 min 01 sec\n"},
		{"Flagz", "text/plain", http.StatusOK, "text/plain; charset=utf-8", "a=b\nsecure-port=6443\n"},
		{"Statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz", http.StatusOK, "application/json;g=config.k8s.io;v=v1beta1;as=Statusz", `"kind":"Statusz","apiVersion":"config.k8s.io/v1beta1","metadata":{"name":"apiserver"}`},
		{"Statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz", http.StatusOK, "application/json;g=config.k8s.io;v=v1beta1;as=Statusz", `"uptimeSeconds":3661`},
		{"Flagz", "application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz", http.StatusOK, "application/yaml;g=config.k8s.io;v=v1beta1;as=Flagz", "flags:\n  a: b\n"},
		{"Flagz", "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz", http.StatusOK, "application/json;g=config.k8s.io;v=v1alpha1;as=Flagz", `"apiVersion":"config.k8s.io/v1alpha1"`},
		{"Flagz", "application/json", http.StatusNotAcceptable, "application/json", "only the following media types are accepted: application/json, application/yaml, text/plain"},
		{"Flagz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz", http.StatusNotAcceptable, "application/json", "NotAcceptable"},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		if c.accept != "" {
			r.Header.Set("Accept", c.accept)
		}
		if c.page == "Statusz" {
			p.Statusz(w, r)
		} else {
			p.Flagz(w, r)
		}
		if w.Code != c.code || w.Header().Get("Content-Type") != c.kind || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s for %q = %d %s %s, want %d %s with %q", c.page, c.accept, w.Code, w.Header().Get("Content-Type"), w.Body, c.code, c.kind, c.want)
		}
		if old := strings.Contains(c.accept, "alpha"); (w.Header().Get("Warning") != "") != old {
			t.Errorf("%s for %q: warning %q", c.page, c.accept, w.Header().Get("Warning"))
		}
	}
}
