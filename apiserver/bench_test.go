// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/store/etcd"
)

// benchPod is a pod of about 1 KB, as clients send it.
const benchPod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","labels":{"app":"bench","group":"g1"},"annotations":{"round":"0"}},` +
	`"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"main","image":"registry.example/app:1","command":["/app","--listen=:8080"],` +
	`"env":[{"name":"A","value":"1"},{"name":"B","value":"2"},{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}}],` +
	`"ports":[{"name":"http","containerPort":8080}],"resources":{"requests":{"cpu":"100m","memory":"64Mi"},"limits":{"cpu":"200m","memory":"128Mi"}},` +
	`"readinessProbe":{"httpGet":{"path":"/ready","port":"http"}},"volumeMounts":[{"name":"scratch","mountPath":"/scratch"}]}],` +
	`"volumes":[{"name":"scratch","emptyDir":{}}],"tolerations":[{"key":"dedicated","operator":"Equal","value":"bench","effect":"NoSchedule"}]}}`

// BenchmarkRequest keeps the cost of each kind of request: what the server itself takes, from the decoded HTTP request to its answer, on a
// store that keeps everything on disk.
func BenchmarkRequest(b *testing.B) {
	s, err := etcd.Open(b.Context(), etcd.Config{DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	handler := start(b, func(c *apiserver.Config) { c.Store = s }).Handler()
	const pods = "/api/v1/namespaces/default/pods"
	name := func(prefix string, i int) string { return fmt.Sprintf("%s-%06d", prefix, i) }
	do := func(b *testing.B, method, path, contentType string, body []byte) []byte {
		req := httptest.NewRequestWithContext(b.Context(), method, path, bytes.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept", "application/json")
		req.Header.Set("User-Agent", "tester/1.0")
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, req)
		if rec.Code >= 300 {
			b.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
		}
		return rec.Body.Bytes()
	}
	create := func(b *testing.B, name string) []byte {
		return do(b, http.MethodPost, pods, "application/json", fmt.Appendf(nil, benchPod, name))
	}
	create(b, "one")
	for _, request := range []struct {
		name string
		do   func(b *testing.B, i int)
	}{
		{"create", func(b *testing.B, i int) { create(b, name("p", i)) }},
		{"get", func(b *testing.B, _ int) { do(b, http.MethodGet, pods+"/one", "", nil) }},
		{"patch", func(b *testing.B, i int) {
			do(b, http.MethodPatch, pods+"/one", "application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{"round":"%d"}}}`, i))
		}},
		{"apply", func(b *testing.B, i int) {
			body := bytes.Replace(fmt.Appendf(nil, benchPod, "one"), []byte(`"round":"0"`), fmt.Appendf(nil, `"round":"%d"`, i), 1)
			do(b, http.MethodPatch, pods+"/one?fieldManager=applier&force=true", "application/apply-patch+yaml", body)
		}},
	} {
		b.Run(request.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				request.do(b, i+b.N*1000)
			}
		})
	}
}
