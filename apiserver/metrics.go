// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"maps"
	"net/http"
	"slices"
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
	inflight *prometheus.GaugeVec
	authn    *prometheus.CounterVec
	// deprecated are the versions that will go and were asked for.
	deprecated *prometheus.GaugeVec
	// serves tells whether a resource is served now.
	serves func(schema.GroupVersionResource) bool

	// mu is held from the question whether a resource is served to the making of what is counted of it, so that nothing is made after
	// forget has removed what there was of a resource that is served no more.
	mu sync.RWMutex

	targets map[target]*counted
	watches map[schema.GroupVersionResource]*watched
}

func newMetrics(serves func(schema.GroupVersionResource) bool) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		serves:   serves,
		targets:  map[target]*counted{},
		watches:  map[schema.GroupVersionResource]*watched{},
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests", Help: "Requests being served."}, []string{"request_kind"}),
		authn:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "authentication_attempts", Help: "Authentication attempts by result."}, []string{"result"}),
		deprecated: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_requested_deprecated_apis", Help: "Deprecated versions that were asked for."},
			[]string{"group", "version", "resource", "subresource", "removed_release"}),
	}
	m.registry.MustRegister(m, m.inflight, m.authn, m.deprecated,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

var _ prometheus.Collector = (*metrics)(nil)

// Describe implements prometheus.Collector for the families whose series name resources.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{requestsDesc, durationDesc, longDesc, sizesDesc, eventsDesc, bytesDesc} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.RLock()
	targets, watches := slices.Collect(maps.Values(m.targets)), slices.Collect(maps.Values(m.watches))
	m.mu.RUnlock()
	for _, c := range targets {
		c.collect(ch)
	}
	for _, w := range watches {
		w.collect(ch)
	}
}

func (m *metrics) handler(started time.Time) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ProcessStartTime: started})
}

// target is that of a request, without the names of a resource that is not served now.
func (m *metrics) target(p *parsed) target {
	scope := ""
	switch {
	case !p.IsResource:
	case p.Name != "", p.Verb == "create":
		scope = "resource"
	case p.Namespace != "":
		scope = "namespace"
	default:
		scope = "cluster"
	}
	verb := countedVerb(p)
	if !p.served || !m.serves(p.GroupVersionResource) {
		// Paths come from clients: names that mean nothing must not make series.
		return target{verb: verb, scope: scope}
	}
	return target{verb, p.Group, p.Version, p.Resource, p.Subresource, scope}
}

// countedVerb is what a request is counted as: its method, but for what says more of how long it may take.
func countedVerb(p *parsed) string {
	if p.served && slices.Contains(connects, p.Subresource) {
		return "CONNECT"
	}
	switch p.Verb {
	case "create":
		return "POST"
	case "update":
		return "PUT"
	case "delete", "deletecollection":
		return "DELETE"
	case "list":
		if p.Name != "" { // A field selector leaves one object.
			return "GET"
		}
		return "LIST"
	case "watch":
		return "WATCH"
	case "get":
		return "GET"
	case "patch":
		if p.applies {
			return "APPLY"
		}
		return "PATCH"
	default:
		return "other"
	}
}

// of returns what is counted of a request's target.
func (m *metrics) of(p *parsed) *counted {
	t := m.target(p)
	m.mu.RLock()
	c := m.targets[t]
	m.mu.RUnlock()
	if c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t = m.target(p)
	if c = m.targets[t]; c == nil {
		c = newCounted(t)
		m.targets[c.target] = c
	}
	return c
}

// begin counts a request; the function returned ends it.
func (m *metrics) begin(p *parsed) func(code int) {
	if p.LongRunning() {
		began := m.of(p)
		began.enter()
		return func(code int) {
			began.leave()
			m.of(p).answer(code)
		}
	}
	started := time.Now()
	kind := "mutating"
	if p.Verb == "get" || p.Verb == "list" {
		kind = "readOnly"
	}
	gauge := m.inflight.WithLabelValues(kind)
	gauge.Inc()
	return func(code int) {
		gauge.Dec()
		m.of(p).answerAfter(code, time.Since(started))
	}
}

// forget removes the series of a resource that is served no more.
func (m *metrics) forget(gr schema.GroupResource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.targets, func(t target, _ *counted) bool { return t.group == gr.Group && t.resource == gr.Resource })
	maps.DeleteFunc(m.watches, func(gvr schema.GroupVersionResource, _ *watched) bool { return gvr.GroupResource() == gr })
}

// size counts an answer of n bytes, unless its resource is not served.
func (m *metrics) size(p *parsed, n int) {
	if p == nil || !p.served {
		return
	}
	if c := m.of(p); c.resource != "" {
		c.size(n)
	}
}

// watching is what is counted of the watches of a resource; nil when it is served no more.
func (m *metrics) watching(gvr schema.GroupVersionResource) *watched {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.serves(gvr) {
		return nil
	}
	w := m.watches[gvr]
	if w == nil {
		w = &watched{GroupVersionResource: gvr, since: time.Now()}
		m.watches[gvr] = w
	}
	return w
}

func (m *metrics) authentication(result string) { m.authn.WithLabelValues(result).Inc() }
