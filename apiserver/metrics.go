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
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inflight *prometheus.GaugeVec
	long     *prometheus.GaugeVec
	sizes    *prometheus.HistogramVec
	events   *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	authn    *prometheus.CounterVec
	// deprecated are the versions that will go and were asked for.
	deprecated *prometheus.GaugeVec
	// serves tells whether a resource is served now.
	serves func(schema.GroupVersionResource) bool

	// mu is held for reading from the question whether a resource is served to the making of its series, so that none is made after
	// forget has removed those of a resource that is served no more.
	mu sync.RWMutex
}

func newMetrics(serves func(schema.GroupVersionResource) bool) *metrics {
	target := []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		serves:   serves,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_total", Help: "Requests by verb, target and code."},
			append([]string{"code", "dry_run"}, target...)),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_request_duration_seconds", Help: "Response latency of requests that are not long-running.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10, 30, 60},
		}, append([]string{"dry_run"}, target...)),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests", Help: "Requests being served."}, []string{"request_kind"}),
		long:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests", Help: "Long-running requests being served."}, target),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_response_sizes", Help: "Response sizes in bytes.", Buckets: prometheus.ExponentialBuckets(1000, 10, 7),
		}, target),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_watch_events_total", Help: "Events sent to watchers."}, []string{"group", "version", "resource"}),
		bytes:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_watch_events_bytes_total", Help: "Bytes of events sent to watchers."}, []string{"group", "version", "resource"}),
		authn:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "authentication_attempts", Help: "Authentication attempts by result."}, []string{"result"}),
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

// labelsOf are the values of target's labels.
func labelsOf(p *parsed) []string {
	scope := ""
	switch {
	case !p.IsResource:
	case p.Name != "":
		scope = "resource"
	case p.Namespace != "":
		scope = "namespace"
	default:
		scope = "cluster"
	}
	verb := p.Verb
	switch verb {
	case "create":
		verb = "POST"
	case "update":
		verb = "PUT"
	case "deletecollection":
		verb = "DELETECOLLECTION"
	case "list":
		verb = "LIST"
	case "watch":
		verb = "WATCH"
	case "get":
		verb = "GET"
	case "patch":
		verb = "PATCH"
	case "delete":
		verb = "DELETE"
	default:
		verb = "other"
	}
	if !p.served {
		// Paths come from clients: names that mean nothing must not make series.
		return []string{verb, "", "", "", "", scope, "apiserver"}
	}
	return []string{verb, p.Group, p.Version, p.Resource, p.Subresource, scope, "apiserver"}
}

// begin counts a request; the function returned ends it.
func (m *metrics) begin(p *parsed) func(code int) {
	started := time.Now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	labels := m.labelsNow(p)
	long := p.LongRunning()
	var gauge prometheus.Gauge
	switch verb := labels[0]; {
	case long:
		gauge = m.long.WithLabelValues(labels...)
	case verb == "GET" || verb == "LIST":
		gauge = m.inflight.WithLabelValues("readOnly")
	default:
		gauge = m.inflight.WithLabelValues("mutating")
	}
	gauge.Inc()
	return func(code int) {
		gauge.Dec()
		m.mu.RLock()
		defer m.mu.RUnlock()
		if p.served && !m.serves(p.GroupVersionResource) {
			labels = m.labelsNow(p)
		}
		const dryRun = ""
		counted := append([]string{strconv.Itoa(code), dryRun}, labels...)
		m.requests.WithLabelValues(counted...).Inc()
		if !long {
			m.duration.WithLabelValues(counted[1:]...).Observe(time.Since(started).Seconds())
		}
	}
}

// labelsNow are those of a request, without the names of a resource that is served no more.
func (m *metrics) labelsNow(p *parsed) []string {
	if p.served && !m.serves(p.GroupVersionResource) {
		p.served = false
	}
	return labelsOf(p)
}

// forget removes the series of a resource that is served no more.
func (m *metrics) forget(gr schema.GroupResource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	labels := prometheus.Labels{"group": gr.Group, "resource": gr.Resource}
	for _, vec := range []interface{ DeletePartialMatch(prometheus.Labels) int }{m.requests, m.duration, m.long, m.sizes, m.events, m.bytes} {
		vec.DeletePartialMatch(labels)
	}
}

func (m *metrics) size(p *parsed, n int) {
	if p == nil || !p.served {
		return
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.serves(p.GroupVersionResource) {
		m.sizes.WithLabelValues(labelsOf(p)...).Observe(float64(n))
	}
}

// watched are the series of a watch; nil when its resource is served no more.
type watched struct{ events, bytes prometheus.Counter }

func (m *metrics) watching(gvr schema.GroupVersionResource) watched {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.serves(gvr) {
		return watched{}
	}
	return watched{m.events.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource), m.bytes.WithLabelValues(gvr.Group, gvr.Version, gvr.Resource)}
}

// event counts one of n bytes. What was forgotten meanwhile is not seen any more.
func (w watched) event(n int) {
	if w.events != nil {
		w.events.Inc()
		w.bytes.Add(float64(n))
	}
}

func (m *metrics) authentication(result string) { m.authn.WithLabelValues(result).Inc() }
