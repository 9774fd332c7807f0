// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/store/memory"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// scrape is what a registry says to those who ask over HTTP.
func scrape(r *prometheus.Registry) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// exposed is what a registry says to those who ask over HTTP, without comments.
func exposed(r *prometheus.Registry) []string {
	var out []string
	for line := range strings.Lines(scrape(r)) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// TestMetricsNameWhatIsServed follows requests for a resource that is served, for one that never was, and for one that is taken away.
func TestMetricsNameWhatIsServed(t *testing.T) {
	served := map[schema.GroupVersionResource]bool{}
	m := newMetrics(func(gvr schema.GroupVersionResource) bool { return served[gvr] })
	of := func(verb, resource, name string) *parsed {
		gvr := schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: resource}
		return &parsed{served: served[gvr], Info: request.Info{IsResource: true, Verb: verb, GroupVersionResource: gvr, Subresource: "status", Name: name}}
	}
	for _, name := range []string{"ships", "cogs"} {
		served[schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: name}] = true
	}
	requests := func() (out []string) {
		for _, line := range exposed(m.registry) {
			if strings.HasPrefix(line, "apiserver_") && !strings.Contains(line, "_bucket") && !strings.Contains(line, "_sum") {
				out = append(out, line)
			}
		}
		return out
	}
	m.begin(of("update", "ships", "a"))(200)
	m.begin(of("update", "boats", "a"))(404) // Nobody knows boats.
	ended := m.begin(of("watch", "cogs", ""))
	m.size(of("list", "cogs", ""), 10)
	m.size(of("list", "boats", ""), 10)
	m.watching(of("watch", "cogs", "").GroupVersionResource).event(5)
	want := []string{
		`apiserver_current_inflight_requests{request_kind="mutating"} 0`,
		`apiserver_longrunning_requests{component="apiserver",group="example.com",resource="cogs",scope="cluster",subresource="status",verb="WATCH",version="v1"} 1`,
		`apiserver_request_duration_seconds_count{component="apiserver",dry_run="",group="",resource="",scope="resource",subresource="",verb="PUT",version=""} 1`,
		`apiserver_request_duration_seconds_count{component="apiserver",dry_run="",group="example.com",resource="ships",scope="resource",subresource="status",verb="PUT",version="v1"} 1`,
		`apiserver_request_total{code="200",component="apiserver",dry_run="",group="example.com",resource="ships",scope="resource",subresource="status",verb="PUT",version="v1"} 1`,
		`apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="",scope="resource",subresource="",verb="PUT",version=""} 1`,
		`apiserver_response_sizes_count{component="apiserver",group="example.com",resource="cogs",scope="cluster",subresource="status",verb="LIST",version="v1"} 1`,
		`apiserver_watch_events_bytes_total{group="example.com",resource="cogs",version="v1"} 5`,
		`apiserver_watch_events_total{group="example.com",resource="cogs",version="v1"} 1`,
	}
	if d := cmp.Diff(want, requests()); d != "" {
		t.Errorf("metrics (-want +got):\n%s", d)
	}

	cogs := of("get", "cogs", "a").GroupVersionResource
	before := m.watching(cogs)
	delete(served, cogs)
	m.forget(cogs.GroupResource())
	before.event(5)
	m.watching(cogs).event(5)
	ended(200)
	for _, line := range requests() {
		if strings.Contains(line, "cogs") {
			t.Errorf("a resource that is served no more has the series %s", line)
		}
	}
	const unnamed = `apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="",scope="cluster",subresource="",verb="WATCH",version=""} 1`
	if got := strings.Join(requests(), "\n"); !strings.Contains(got, unnamed) {
		t.Errorf("the watch that ended after its resource is not counted as %s, but:\n%s", unnamed, got)
	}
}

// requestFor is a request for a resource of example.com that is served.
func requestFor(verb, namespace, resource, name, subresource string) *parsed {
	gvr := schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: resource}
	return &parsed{served: true, Info: request.Info{IsResource: true, Verb: verb, GroupVersionResource: gvr, Namespace: namespace, Name: name, Subresource: subresource}}
}

// TestMetricsAsScraped compares all that the server counts itself with testdata/metrics.golden, which prometheus' own vectors wrote.
func TestMetricsAsScraped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics(func(schema.GroupVersionResource) bool { return true })
		for _, c := range []struct {
			request *parsed
			took    time.Duration
			code    int
			size    int
		}{
			{requestFor("list", "", "ships", "", ""), 5 * time.Millisecond, 200, 1000},
			{requestFor("list", "", "ships", "", ""), 5*time.Millisecond + 1, 200, 1001},
			{requestFor("list", "", "ships", "", ""), 61 * time.Second, 504, 2e9},
			{requestFor("update", "north", "ships", "a", "status"), 250 * time.Millisecond, 200, 40000},
			{requestFor("update", "north", "ships", "a", "status"), 1250 * time.Millisecond, 409, 0},
			{requestFor("create", "north", "cogs", "", ""), 0, 201, 12},
			{&parsed{Info: request.Info{Verb: "get", Path: "/healthz"}}, time.Millisecond, 200, 2},
			{&parsed{Info: request.Info{IsResource: true, Verb: "delete", Name: "a", GroupVersionResource: schema.GroupVersionResource{Resource: "boats"}}}, time.Millisecond, 404, 2},
		} {
			ended := m.begin(c.request)
			time.Sleep(c.took)
			m.size(c.request, c.size)
			ended(c.code)
		}
		m.begin(requestFor("watch", "north", "ships", "", ""))
		m.begin(requestFor("watch", "", "ships", "", ""))(200)
		m.begin(requestFor("create", "north", "ships", "a", "exec"))(101)
		ships := m.watching(requestFor("watch", "", "ships", "", "").GroupVersionResource)
		ships.event(100)
		ships.event(23)
		m.watching(requestFor("watch", "", "cogs", "", "").GroupVersionResource)
		m.authentication("success")

		var got strings.Builder
		for line := range strings.Lines(scrape(m.registry)) {
			if strings.Contains(line, "apiserver_") || strings.Contains(line, "authentication_") {
				got.WriteString(line)
			}
		}
		golden := filepath.Join("testdata", "metrics.golden")
		if *rewrite {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); d != "" {
			t.Errorf("metrics (-want +got):\n%s", d)
		}
	})
}

// TestSeriesSayWhenTheyBegan asks as scrapers do that take the time from which a count counts.
func TestSeriesSayWhenTheyBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics(func(schema.GroupVersionResource) bool { return true })
		time.Sleep(time.Hour)
		from := time.Now()
		p := requestFor("list", "", "ships", "", "")
		m.begin(p)(200)
		m.size(p, 10)
		m.watching(p.GroupVersionResource).event(1)
		time.Sleep(time.Hour)
		m.begin(p)(200)
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, series := range family.Metric {
				created := series.GetCounter().GetCreatedTimestamp()
				if created == nil {
					created = series.GetHistogram().GetCreatedTimestamp()
				}
				if strings.HasPrefix(family.GetName(), "apiserver_") && series.Gauge == nil && !created.AsTime().Equal(from) {
					t.Errorf("%s counts from %v, want %v", family.GetName(), created.AsTime(), from)
				}
			}
		}
	})
}

// TestForgottenSeriesDoNotComeBack has clients that ask for a resource while it comes and goes, and others that scrape.
func TestForgottenSeriesDoNotComeBack(t *testing.T) {
	var mu sync.Mutex
	served := true
	serve := func(now bool) {
		mu.Lock()
		defer mu.Unlock()
		served = now
	}
	m := newMetrics(func(schema.GroupVersionResource) bool {
		mu.Lock()
		defer mu.Unlock()
		return served
	})
	ships := requestFor("list", "", "ships", "", "").GroupVersionResource
	for range 50 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					watched := m.begin(requestFor("watch", "", "ships", "", ""))
					ended := m.begin(requestFor("list", "", "ships", "", ""))
					m.size(requestFor("list", "", "ships", "", ""), 10)
					m.watching(ships).event(1)
					ended(200)
					watched(200)
				}
			})
		}
		wg.Go(func() { scrape(m.registry) })
		serve(false)
		m.forget(ships.GroupResource())
		wg.Wait()
		if text := scrape(m.registry); strings.Contains(text, "ships") || strings.Contains(text, "response_sizes") {
			t.Fatalf("a resource that is served no more has series:\n%s", text)
		}
		serve(true)
	}

	watched := m.begin(requestFor("watch", "", "ships", "", ""))
	before := m.watching(ships)
	m.forget(ships.GroupResource())
	again := m.begin(requestFor("watch", "", "ships", "", ""))
	m.watching(ships).event(1)
	before.event(1)
	watched(200)
	text := scrape(m.registry)
	for _, want := range []string{
		`apiserver_longrunning_requests{component="apiserver",group="example.com",resource="ships",scope="cluster",subresource="",verb="WATCH",version="v1"} 1`,
		`apiserver_request_total{code="200",component="apiserver",dry_run="",group="example.com",resource="ships",scope="cluster",subresource="",verb="WATCH",version="v1"} 1`,
		`apiserver_watch_events_total{group="example.com",resource="ships",version="v1"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("a resource that is served again does not have %s:\n%s", want, text)
		}
	}
	again(200)
}

// TestNothingIsMadeOfWhatWasJustForgotten has a resource that goes after a request that ends has asked for it, and before its series is made.
func TestNothingIsMadeOfWhatWasJustForgotten(t *testing.T) {
	served := true
	var m *metrics
	m = newMetrics(func(gvr schema.GroupVersionResource) bool {
		if !served {
			return false
		}
		served = false
		m.forget(gvr.GroupResource())
		return true
	})
	m.begin(requestFor("list", "", "ships", "", ""))(200)
	if text := scrape(m.registry); strings.Contains(text, "ships") {
		t.Errorf("a resource that is served no more has series:\n%s", text)
	}
}

// TestRequestsThatAreCutOffHaveEnded has a handler cut off its answer, as a list does that cannot go on.
func TestRequestsThatAreCutOffHaveEnded(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	engine, err := rest.NewEngine(rest.Config{Store: memory.New(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{metrics: newMetrics(func(schema.GroupVersionResource) bool { return false }), log: logger, engine: engine}
	handler := s.withState(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	func() {
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("panic = %v, want that the connection is told to end", err)
			}
		}()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/version", http.NoBody))
	}()
	if text := scrape(s.metrics.registry); !strings.Contains(text, `apiserver_current_inflight_requests{request_kind="readOnly"} 0`) {
		t.Errorf("a request is still served:\n%s", text)
	}
}

// TestTargetsAreFewObjects has resources listed once, as informers do: there may be thousands of them, and each object keeps its part of the heap.
func TestTargetsAreFewObjects(t *testing.T) {
	const resources = 1000
	m := newMetrics(servedAs(resources))
	var lists []*parsed
	for i := range resources {
		lists = append(lists, requestFor("list", "", fmt.Sprintf("ships-%d", i), "", ""))
	}
	i := 0
	if n := testing.AllocsPerRun(resources-1, func() { m.begin(lists[i])(200); i++ }); n > 4 {
		t.Errorf("a resource that is listed once takes %v objects, want 4 at most: what is counted, its names, its part of the map, and the request's own", n)
	}
}

// servedAs tells as the server does whether a resource is served.
func servedAs(resources int) func(schema.GroupVersionResource) bool {
	targets := map[schema.GroupVersionResource]bool{}
	for i := range resources {
		targets[requestFor("list", "", fmt.Sprintf("ships-%d", i), "", "").GroupVersionResource] = true
	}
	return func(gvr schema.GroupVersionResource) bool { return targets[gvr] }
}

// BenchmarkMetrics counts requests, and their answers' sizes, for one resource of a thousand; and shows what is counted then.
func BenchmarkMetrics(b *testing.B) {
	const resources = 1000
	m := newMetrics(servedAs(resources))
	for i := range resources {
		m.begin(requestFor("list", "", fmt.Sprintf("ships-%d", i), "", ""))(200)
	}
	for _, verb := range []string{"list", "watch"} {
		b.Run(verb, func(b *testing.B) {
			b.ReportAllocs()
			p := requestFor(verb, "", "ships-7", "", "")
			for b.Loop() {
				m.begin(p)(200)
			}
		})
	}
	b.Run("size", func(b *testing.B) {
		b.ReportAllocs()
		p := requestFor("list", "", "ships-7", "", "")
		for b.Loop() {
			m.size(p, 1234)
		}
	})
	b.Run("list by all processors", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			p := requestFor("list", "", "ships-7", "", "")
			for pb.Next() {
				m.begin(p)(200)
			}
		})
	})
	b.Run("scrape", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			scrape(m.registry)
		}
	})
}
