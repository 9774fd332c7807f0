// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package netpol

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	registry *prometheus.Registry
	sync     prometheus.Histogram
	failures prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "kogge_netpol", Name: "sync_duration_seconds", Help: "Time to compile and write the policies.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "kogge_netpol", Name: "sync_failures_total", Help: "Transactions that the kernel refused."}),
	}
	m.registry.MustRegister(m.sync, m.failures)
	return m
}
