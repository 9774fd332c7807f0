// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http/httptest"
	"strings"
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
