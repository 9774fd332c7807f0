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

// requests are the kinds of requests whose cost is kept: i makes each one different, within one run of all of them.
var requests = []struct {
	name string
	// budget is how many allocations the server may take for one, on a store in memory: about a tenth more than it takes with the invariants compiled in.
	budget float64
	do     func(c *caller, i int)
}{
	{"create", 920, func(c *caller, i int) { c.create(fmt.Sprintf("p-%06d", i)) }},
	{"get", 105, func(c *caller, _ int) { c.do(http.MethodGet, benchPods+"/one", "", nil) }},
	{"patch", 3100, func(c *caller, i int) {
		c.do(http.MethodPatch, benchPods+"/one", "application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{"round":"%d"}}}`, i))
	}},
	{"strategic patch", 3000, func(c *caller, i int) {
		c.do(http.MethodPatch, benchPods+"/one", "application/strategic-merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{"round":"%d"}}}`, i))
	}},
	{"apply", 10900, func(c *caller, i int) {
		body := bytes.Replace(fmt.Appendf(nil, benchPod, "one"), []byte(`"round":"0"`), fmt.Appendf(nil, `"round":"%d"`, i), 1)
		c.do(http.MethodPatch, benchPods+"/one?fieldManager=applier&force=true", "application/apply-patch+yaml", body)
	}},
}

const benchPods = "/api/v1/namespaces/default/pods"

// caller sends requests past the network.
type caller struct {
	testing.TB
	handler http.Handler
}

func (c *caller) do(method, path, contentType string, body []byte) {
	req := httptest.NewRequestWithContext(c.Context(), method, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "tester/1.0")
	rec := httptest.NewRecorder()
	c.handler.ServeHTTP(rec, req)
	if rec.Code >= 300 {
		c.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
}

func (c *caller) create(name string) {
	c.do(http.MethodPost, benchPods, "application/json", fmt.Appendf(nil, benchPod, name))
}

// BenchmarkRequest measures what the server itself takes for a request, from the decoded HTTP request to its answer, on a store
// that keeps everything on disk.
func BenchmarkRequest(b *testing.B) {
	s, err := etcd.Open(b.Context(), etcd.Config{DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	handler := start(b, func(c *apiserver.Config) { c.Store = s }).Handler()
	(&caller{b, handler}).create("one")
	n := 0
	for _, request := range requests {
		b.Run(request.name, func(b *testing.B) {
			c := &caller{b, handler}
			b.ReportAllocs()
			for b.Loop() {
				n++
				request.do(c, n)
			}
		})
	}
}

func TestRequestsKeepToTheirBudgets(t *testing.T) {
	c := &caller{t, start(t).Handler()}
	c.create("one")
	n := 0
	for _, request := range requests {
		got := testing.AllocsPerRun(50, func() {
			n++
			request.do(c, n)
		})
		t.Logf("%s: %.0f allocations", request.name, got)
		if got > request.budget {
			t.Errorf("%s takes %.0f allocations, its budget is %.0f: find what became dearer (go test -run xxx -bench Request/%[1]s -memprofile)",
				request.name, got, request.budget)
		}
	}
}
