// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// metrics of the server, under upstream's names. docs/man/kube-apiserver.md lists them.
type metrics struct {
	registry *prometheus.Registry
	requests *series[answered, count]
	duration *series[target, histogram]
	inflight *prometheus.GaugeVec
	long     *series[target, count]
	sizes    *series[target, histogram]
	events   *series[schema.GroupVersionResource, count]
	bytes    *series[schema.GroupVersionResource, count]
	authn    *prometheus.CounterVec
	// deprecated are the versions that will go and were asked for.
	deprecated *prometheus.GaugeVec
	// served finds the resource that is served now by a name; the zero value where none is.
	served func(schema.GroupVersionResource) (schema.GroupVersionResource, bool)

	// mu is held for reading from the question whether a resource is served to the making of its series, so that none is made after
	// forget has removed those of a resource that is served no more.
	mu sync.RWMutex
}

// target is what a request asks for and how, as metrics tell it: the resource is empty where it is no resource that is served.
type target struct {
	schema.GroupVersionResource
	verb, subresource, scope string
}

// answered is a target and the code of an answer.
type answered struct {
	target
	code int
}

func newMetrics(served func(schema.GroupVersionResource) (schema.GroupVersionResource, bool)) *metrics {
	resource := []string{"group", "version", "resource"}
	ofTarget := append([]string{"verb", "subresource", "scope"}, resource...)
	resourceLabels := func(gvr schema.GroupVersionResource) []string { return []string{gvr.Group, gvr.Version, gvr.Resource} }
	targetLabels := func(t target) []string {
		return append([]string{t.verb, t.subresource, t.scope}, resourceLabels(t.GroupVersionResource)...)
	}
	// Here no other component answers, and dry runs are not told apart.
	component, undivided := prometheus.Labels{"component": "apiserver"}, prometheus.Labels{"component": "apiserver", "dry_run": ""}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		served:   served,
		requests: newCounts(prometheus.CounterValue, opts{
			name: "apiserver_request_total", help: "Requests by verb, target and code.", labels: append([]string{"code"}, ofTarget...), same: undivided,
		}, func(a answered) []string { return append([]string{strconv.Itoa(a.code)}, targetLabels(a.target)...) }),
		duration: newHistograms(durations, opts{
			name: "apiserver_request_duration_seconds", help: "Response latency of requests that are not long-running.", labels: ofTarget, same: undivided,
		}, targetLabels),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests", Help: "Requests being served."}, []string{"request_kind"}),
		long: newCounts(prometheus.GaugeValue, opts{
			name: "apiserver_longrunning_requests", help: "Long-running requests being served.", labels: ofTarget, same: component,
		}, targetLabels),
		sizes: newHistograms(sizes, opts{name: "apiserver_response_sizes", help: "Response sizes in bytes.", labels: ofTarget, same: component}, targetLabels),
		events: newCounts(prometheus.CounterValue, opts{
			name: "apiserver_watch_events_total", help: "Events sent to watchers.", labels: resource,
		}, resourceLabels),
		bytes: newCounts(prometheus.CounterValue, opts{
			name: "apiserver_watch_events_bytes_total", help: "Bytes of events sent to watchers.", labels: resource,
		}, resourceLabels),
		authn: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "authentication_attempts", Help: "Authentication attempts by result."}, []string{"result"}),
		deprecated: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_requested_deprecated_apis", Help: "Deprecated versions that were asked for."},
			[]string{"group", "version", "resource", "subresource", "removed_release"}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.inflight, m.long, m.sizes, m.events, m.bytes, m.authn, m.deprecated,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// verbs as metrics have them.
var verbs = map[string]string{
	"create": "POST", "update": "PUT", "get": "GET", "list": "LIST", "watch": "WATCH", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}

// targetOf is what a request asks for. The caller holds mu.
func (m *metrics) targetOf(p *parsed) target {
	var t target
	switch {
	case !p.IsResource:
	case p.Name != "":
		t.scope = "resource"
	case p.Namespace != "":
		t.scope = "namespace"
	default:
		t.scope = "cluster"
	}
	if t.verb = verbs[p.Verb]; t.verb == "" {
		t.verb = "other"
	}
	if p.served { // Paths come from clients: names that mean nothing must not make series.
		t.GroupVersionResource, t.subresource = p.GroupVersionResource, p.Subresource
	}
	return m.now(t)
}

// now is a target without the names of a resource that is served no more. The caller holds mu.
func (m *metrics) now(t target) target {
	var ok bool
	if t.GroupVersionResource, ok = m.served(t.GroupVersionResource); !ok {
		t.subresource = ""
	}
	return t
}

// begin counts a request; the function returned ends it.
func (m *metrics) begin(p *parsed) func(code int) {
	started := time.Now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	t := m.targetOf(p)
	if p.LongRunning() {
		running := m.long.of(t)
		running.add(1)
		return func(code int) {
			running.add(-1)
			m.mu.RLock()
			defer m.mu.RUnlock()
			m.requests.of(answered{target: m.now(t), code: code}).add(1)
		}
	}
	kind := "mutating"
	if t.verb == "GET" || t.verb == "LIST" {
		kind = "readOnly"
	}
	running := m.inflight.WithLabelValues(kind)
	running.Inc()
	return func(code int) {
		running.Dec()
		m.mu.RLock()
		defer m.mu.RUnlock()
		t := m.now(t)
		m.requests.of(answered{target: t, code: code}).add(1)
		m.duration.of(t).observe(time.Since(started).Seconds(), durations)
	}
}

// forget removes the series of a resource that is served no more.
func (m *metrics) forget(gr schema.GroupResource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := func(gvr schema.GroupVersionResource) bool { return gvr.GroupResource() == gr }
	ofTarget := func(t target) bool { return of(t.GroupVersionResource) }
	m.requests.forget(func(a answered) bool { return ofTarget(a.target) })
	m.duration.forget(ofTarget)
	m.long.forget(ofTarget)
	m.sizes.forget(ofTarget)
	m.events.forget(of)
	m.bytes.forget(of)
}

func (m *metrics) size(p *parsed, n int) {
	if p == nil || !p.served {
		return
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if t := m.targetOf(p); t.Resource != "" {
		m.sizes.of(t).observe(float64(n), sizes)
	}
}

// watched are the series of a watch; nil when its resource is served no more.
type watched struct{ events, bytes *count }

func (m *metrics) watching(gvr schema.GroupVersionResource) watched {
	m.mu.RLock()
	defer m.mu.RUnlock()
	gvr, ok := m.served(gvr)
	if !ok {
		return watched{}
	}
	return watched{m.events.of(gvr), m.bytes.of(gvr)}
}

// event counts one of n bytes. What was forgotten meanwhile is not seen any more.
func (w watched) event(n int) {
	if w.events != nil {
		w.events.add(1)
		w.bytes.add(n)
	}
}

func (m *metrics) authentication(result string) { m.authn.WithLabelValues(result).Inc() }
