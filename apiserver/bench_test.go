// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
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
	{"create and delete", 1550, func(c *caller, i int) {
		name := fmt.Sprintf("d-%06d", i)
		c.create(name)
		c.do(http.MethodDelete, benchPods+"/"+name, "", nil)
	}},
	{"update", 3300, func(c *caller, i int) {
		body := bytes.Replace(fmt.Appendf(nil, benchPod, "one"), []byte(`"round":"0"`), fmt.Appendf(nil, `"round":"%d"`, i), 1)
		c.do(http.MethodPut, benchPods+"/one", "application/json", body)
	}},
}

const benchPods = "/api/v1/namespaces/default/pods"

// caller sends requests past the network.
type caller struct {
	testing.TB
	handler http.Handler
}

func (c *caller) do(method, path, contentType string, body []byte) {
	c.ask(method, path, contentType, "application/json", body)
}

func (c *caller) ask(method, path, contentType, accept string, body []byte) {
	req := httptest.NewRequestWithContext(c.Context(), method, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", accept)
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

// formats of answers whose cost is kept.
var formats = map[string]string{"JSON": "application/json", "protobuf": "application/vnd.kubernetes.protobuf"}

func TestListsKeepToTheirBudgets(t *testing.T) {
	const objects = 100
	c := &caller{t, start(t).Handler()}
	for i := range objects {
		c.create(fmt.Sprintf("p-%03d", i))
	}
	for format, budget := range map[string]float64{"JSON": 200, "protobuf": 130} {
		got := testing.AllocsPerRun(20, func() { c.ask(http.MethodGet, benchPods, "", formats[format], nil) })
		t.Logf("list of %d objects in %s: %.0f allocations", objects, format, got)
		if got > budget {
			t.Errorf("a list of %d objects in %s takes %.0f allocations, its budget is %.0f", objects, format, got, budget)
		}
	}
}

// watcher counts the events that a watch brings.
type watcher struct {
	header http.Header
	events chan<- struct{}
}

// Header implements http.ResponseWriter.
func (w *watcher) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *watcher) WriteHeader(int) {}

// Flush implements http.Flusher.
func (w *watcher) Flush() {}

// Write implements http.ResponseWriter. An event is written at once.
func (w *watcher) Write(data []byte) (int, error) {
	w.events <- struct{}{}
	return len(data), nil
}

func TestWatchEventsKeepToTheirBudgets(t *testing.T) {
	const watchers = 20
	for format, budget := range map[string]float64{"JSON": 2, "protobuf": 7} {
		c := &caller{t, start(t).Handler()}
		c.do(http.MethodPost, maps, "application/json", []byte(`{"metadata":{"name":"seen"},"data":{"round":"0"}}`))
		n := 0
		events := make(chan struct{}, 4*watchers)
		write := func(heard int) float64 {
			return testing.AllocsPerRun(50, func() {
				n++
				c.do(http.MethodPut, maps+"/seen", "application/json", fmt.Appendf(nil, `{"metadata":{"name":"seen"},"data":{"round":"%d"}}`, n))
				for range heard {
					<-events
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		watch := func(n int) {
			for range n {
				req := httptest.NewRequestWithContext(ctx, http.MethodGet, maps+"?watch=1&fieldSelector=metadata.name%3Dseen", nil)
				req.Header.Set("Accept", formats[format])
				wg.Go(func() { c.handler.ServeHTTP(&watcher{http.Header{}, events}, req) })
				<-events // the object as it is
			}
		}
		// One watcher takes its time, in which the cache sees what was written: a write that does not wait for that costs more.
		watch(1)
		write(1)
		one := write(1)
		watch(watchers)
		got := (write(1+watchers) - one) / watchers
		t.Logf("event in %s: %.1f allocations", format, got)
		if got > budget {
			t.Errorf("a delivered event in %s takes %.1f allocations, its budget is %.1f", format, got, budget)
		}
		cancel()
		wg.Wait()
	}
}
