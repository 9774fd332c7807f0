// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/kinds"
)

// metrics of the proxy, under the names that kube-proxy's dashboards know.
type metrics struct {
	registry        *prometheus.Registry
	sync            prometheus.Histogram
	last            prometheus.Gauge
	programming     prometheus.Histogram
	serviceChanges  prometheus.Counter
	endpointChanges prometheus.Counter
	failures        prometheus.Counter
	flows           prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "kubeproxy", Name: name, Help: help})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "kubeproxy", Name: "sync_proxy_rules_duration_seconds", Help: "Time that one sync took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "kubeproxy", Name: "sync_proxy_rules_last_timestamp_seconds", Help: "When the last successful sync ended.",
		}),
		programming: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "kubeproxy", Name: "network_programming_duration_seconds", Help: "From the change of an endpoint to the rule in the kernel.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14),
		}),
		serviceChanges:  counter("sync_proxy_rules_service_changes_total", "Changes of Services."),
		endpointChanges: counter("sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices."),
		failures:        counter("sync_proxy_rules_nftables_sync_failures_total", "Transactions that the kernel refused."),
		flows:           counter("conntrack_reconciler_deleted_entries_total", "Stale UDP flows forgotten."),
	}
	m.registry.MustRegister(m.sync, m.last, m.programming, m.serviceChanges, m.endpointChanges, m.failures, m.flows)
	return m
}

// changed counts the change of an object.
func (m *metrics) changed(obj kinds.Object) {
	switch obj.(type) {
	case *corev1.Service:
		m.serviceChanges.Inc()
	case *discoveryv1.EndpointSlice:
		m.endpointChanges.Inc()
	}
}

// synced notes a sync that began at a time and made changes of the given times effective.
func (m *metrics) synced(began time.Time, triggers []time.Time) {
	now := time.Now()
	m.sync.Observe(now.Sub(began).Seconds())
	m.last.Set(float64(now.UnixNano()) / 1e9)
	for _, at := range triggers {
		m.programming.Observe(now.Sub(at).Seconds())
	}
}
