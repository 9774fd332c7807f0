// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of loops, under the names that upstream's queues have; each loop is one by its name.
type Metrics struct {
	adds, retries *prometheus.CounterVec
	depth         *prometheus.GaugeVec
	waited, took  *prometheus.HistogramVec
}

// NewMetrics makes metrics that several loops share.
func NewMetrics() *Metrics {
	labels, buckets := []string{"name"}, prometheus.ExponentialBuckets(1e-8, 10, 12)
	return &Metrics{
		adds:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_adds_total", Help: "Keys added to the queue."}, labels),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_retries_total", Help: "Keys whose reconcile failed."}, labels),
		depth:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "workqueue_depth", Help: "Keys that wait."}, labels),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "workqueue_queue_duration_seconds", Help: "How long a key waits before it is reconciled.", Buckets: buckets,
		}, labels),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "workqueue_work_duration_seconds", Help: "How long a reconcile takes.", Buckets: buckets,
		}, labels),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{m.adds, m.retries, m.depth, m.waited, m.took} {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.adds, m.retries, m.depth, m.waited, m.took} {
		c.Collect(to)
	}
}

// observer notes what one queue does. A nil one notes nothing.
type observer struct {
	adds, retries prometheus.Counter
	depth         prometheus.Gauge
	waited, took  prometheus.Observer
	since         map[Key]time.Time // of waiting keys; guarded by the queue
}

func (m *Metrics) of(name string) *observer {
	return &observer{
		adds: m.adds.WithLabelValues(name), retries: m.retries.WithLabelValues(name), depth: m.depth.WithLabelValues(name),
		waited: m.waited.WithLabelValues(name), took: m.took.WithLabelValues(name), since: map[Key]time.Time{},
	}
}

func (o *observer) added(key Key) {
	if o == nil {
		return
	}
	o.adds.Inc()
	o.depth.Inc()
	o.since[key] = time.Now()
}

func (o *observer) taken(key Key) {
	if o == nil {
		return
	}
	o.depth.Dec()
	o.waited.Observe(time.Since(o.since[key]).Seconds())
	delete(o.since, key)
}

func (o *observer) failed() {
	if o != nil {
		o.retries.Inc()
	}
}

func (o *observer) done(began time.Time) {
	if o != nil {
		o.took.Observe(time.Since(began).Seconds())
	}
}
