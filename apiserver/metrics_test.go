// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/request"
)

// exposed is what a registry says to those who ask over HTTP, without comments.
func exposed(r *prometheus.Registry) []string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var out []string
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// TestSeriesAreExposedAsTheLibrarys counts the same with ours and with the Prometheus library's.
func TestSeriesAreExposedAsTheLibrarys(t *testing.T) {
	type key struct{ verb, resource string }
	labels := func(k key) []string { return []string{k.verb, k.resource} }
	names, same := []string{"verb", "resource"}, prometheus.Labels{"component": "apiserver"}
	bounds := []float64{0.5, 1, 2}

	counts := newCounts(prometheus.CounterValue, opts{name: "c", help: "help", labels: names, same: same}, labels)
	gauges := newCounts(prometheus.GaugeValue, opts{name: "g", help: "help", labels: names}, labels)
	histograms := newHistograms(bounds, opts{name: "h", help: "help", labels: names, same: same}, labels)
	ours := prometheus.NewRegistry()
	ours.MustRegister(counts, gauges, histograms)

	counters := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c", Help: "help", ConstLabels: same}, names)
	gaugeVec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "g", Help: "help"}, names)
	histogramVec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "h", Help: "help", ConstLabels: same, Buckets: bounds}, names)
	theirs := prometheus.NewRegistry()
	theirs.MustRegister(counters, gaugeVec, histogramVec)

	var all sync.WaitGroup
	for i, value := range []float64{0, 0.5, 0.75, 1, 1.5, 2, 2.5, 100, 0.25} {
		k := key{[]string{"GET", "LIST"}[i%2], "x"}
		all.Go(func() {
			counts.of(k).add(i)
			gauges.of(k).add(-i)
			histograms.of(k).observe(value, bounds)
		})
		counters.WithLabelValues(labels(k)...).Add(float64(i))
		gaugeVec.WithLabelValues(labels(k)...).Sub(float64(i))
		histogramVec.WithLabelValues(labels(k)...).Observe(value)
	}
	all.Wait()
	if d := cmp.Diff(exposed(theirs), exposed(ours)); d != "" {
		t.Errorf("metrics differ from the library's (-theirs +ours):\n%s", d)
	}
}

// TestMetricsNameWhatIsServed follows requests for a resource that is served, for one that never was, and for one that is taken away.
func TestMetricsNameWhatIsServed(t *testing.T) {
	served := map[schema.GroupVersionResource]bool{}
	m := newMetrics(func(gvr schema.GroupVersionResource) (schema.GroupVersionResource, bool) {
		if served[gvr] {
			return gvr, true
		}
		return schema.GroupVersionResource{}, false
	})
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
