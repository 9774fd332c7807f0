// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzBody sends arbitrary bodies in every format: each must be answered without a panic and never with an internal error.
func FuzzBody(f *testing.F) {
	f.Add("application/json", []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`))
	f.Add("application/yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"))
	f.Add("application/vnd.kubernetes.protobuf", []byte("k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x00\x1a\x00\x22\x00"))
	s := start(f)
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if !printable(contentType) {
			return
		}
		rec := ask(t, s, "POST", "/api/v1/namespaces/default/pods?dryRun=All", bytes.NewReader(body), "Content-Type", contentType)
		if rec.Code == 500 {
			t.Errorf("POST %q %q = 500 %s", contentType, body, rec.Body)
		}
	})
}

// FuzzPatch applies arbitrary patches of every type to a stored object.
func FuzzPatch(f *testing.F) {
	for _, kind := range []string{"json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"} {
		f.Add("application/"+kind, []byte(`{"data":{"a":"b"}}`))
		f.Add("application/"+kind, []byte(`[{"op":"add","path":"/data/x","value":"y"}]`))
		f.Add("application/"+kind, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m000"},"data":{"$patch":"replace"}}`))
	}
	s := start(f)
	seed(f, s, 1, 1)
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		if !printable(kind) {
			return
		}
		rec := ask(t, s, "PATCH", maps+"/m000?dryRun=All&fieldManager=fuzz", bytes.NewReader(body), "Content-Type", kind)
		if rec.Code == 500 && strings.Contains(rec.Body.String(), "panic") {
			t.Errorf("PATCH %s %q = 500 %s", kind, body, rec.Body)
		}
	})
}

// FuzzListOptions lists with arbitrary options: selectors, limits, versions and continue tokens come from clients.
func FuzzListOptions(f *testing.F) {
	f.Add("labelSelector=a%3Db,c!%3Dd&limit=1")
	f.Add("fieldSelector=metadata.name%3Dm000")
	f.Add("continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NCwic3RhcnQiOiJtMDAwXHUwMDAwIn0")
	f.Add("resourceVersion=0&resourceVersionMatch=NotOlderThan")
	s := start(f)
	seed(f, s, 3, 1)
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil || q.Has("watch") || len(q.Get("resourceVersion")) > 3 { // Watches and far versions only wait.
			return
		}
		rec := ask(t, s, "GET", maps+"?"+q.Encode(), nil)
		if rec.Code == 500 {
			t.Errorf("GET ?%s = 500 %s", q.Encode(), rec.Body)
		}
	})
}

// FuzzPath parses arbitrary paths.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/", "/api/v1/pods", "/apis/apps/v1/namespaces/x/deployments/y/scale", "/api/v1/watch/pods", "/api/v1/namespaces/x/pods/y/proxy/a/b/"} {
		f.Add("GET", path)
	}
	s := start(f)
	f.Fuzz(func(t *testing.T, method, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") || strings.Contains(path, "watch") || strings.HasPrefix(path, "/debug") || !printable(method+path) || method == "" || strings.Contains(method, " ") {
			return
		}
		req := httptest.NewRequest("GET", "/", nil)
		req.Method, req.URL = method, u
		rec := httptest.NewRecorder()
		s.Handler().ServeHTTP(rec, req)
		if rec.Code == 500 {
			t.Errorf("%s %s = 500 %s", method, path, rec.Body)
		}
	})
}

func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return true
}
