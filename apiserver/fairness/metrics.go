// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// flowLabels are a priority level and a flow schema: the labels of the metrics, under upstream's names.
type flowLabels struct{ level, schema string }

// metrics under upstream's names; docs/man/kube-apiserver.md lists them.
type metrics struct {
	dispatches, rejections *prometheus.CounterVec
	waits, executions      *prometheus.HistogramVec
	levels                 levelGauges
}

func newMetrics(read func() []levelGauge) *metrics {
	flow := []string{"priority_level", "flow_schema"}
	buckets := []float64{0.002, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}
	return &metrics{
		dispatches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_flowcontrol_dispatched_requests_total", Help: "Requests that were let in.",
		}, flow),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_flowcontrol_rejected_requests_total", Help: "Requests that were refused, by reason.",
		}, append([]string{"reason"}, flow...)),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_flowcontrol_request_wait_duration_seconds", Help: "Time spent waiting for seats.", Buckets: append([]float64{0}, buckets...),
		}, append([]string{"execute"}, flow...)),
		executions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_flowcontrol_request_execution_seconds", Help: "Time spent executing.", Buckets: append([]float64{0}, buckets...),
		}, flow),
		levels: levelGauges{read: read},
	}
}

func (m *metrics) dispatched(f flowLabels, waited time.Duration) {
	m.dispatches.WithLabelValues(f.level, f.schema).Inc()
	m.waits.WithLabelValues("true", f.level, f.schema).Observe(waited.Seconds())
}

func (m *metrics) rejected(f flowLabels, reason string, waited time.Duration) {
	m.rejections.WithLabelValues(reason, f.level, f.schema).Inc()
	m.waits.WithLabelValues("false", f.level, f.schema).Observe(waited.Seconds())
}

func (m *metrics) executed(f flowLabels, took time.Duration) {
	m.executions.WithLabelValues(f.level, f.schema).Observe(took.Seconds())
}

// Collectors are the limiter's metrics.
func (l *Limiter) Collectors() []prometheus.Collector {
	return []prometheus.Collector{l.metrics.dispatches, l.metrics.rejections, l.metrics.waits, l.metrics.executions, l.metrics.levels}
}

// levelGauge is the state of one level.
type levelGauge struct {
	name                       string
	executing, waiting         int
	current, min, nominal, max int
	smooth                     float64
}

// gauges reads the levels' states.
func (l *Limiter) gauges() []levelGauge {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]levelGauge, 0, len(l.levels))
	for name, lv := range l.levels {
		g := levelGauge{name: name, current: lv.core.Seats(), min: lv.plan.min, nominal: lv.plan.nominal, max: lv.plan.max, smooth: lv.smooth}
		g.executing, g.waiting = lv.core.Load()
		out = append(out, g)
	}
	return out
}

// levelGauges reads the states when it is scraped, so that requests don't pay for them.
type levelGauges struct{ read func() []levelGauge }

var levelMetrics = []struct {
	desc  *prometheus.Desc
	value func(levelGauge) float64
}{
	{levelDesc("current_executing_seats", "Seats taken by executing requests."), func(g levelGauge) float64 { return float64(g.executing) }},
	{levelDesc("current_inqueue_seats", "Seats that waiting requests ask for."), func(g levelGauge) float64 { return float64(g.waiting) }},
	{levelDesc("current_limit_seats", "Seats of the level, lent and borrowed ones counted."), func(g levelGauge) float64 { return float64(g.current) }},
	{levelDesc("nominal_limit_seats", "Seats of the level by its shares."), func(g levelGauge) float64 { return float64(g.nominal) }},
	{levelDesc("lower_limit_seats", "Seats that the level never lends."), func(g levelGauge) float64 { return float64(g.min) }},
	{levelDesc("upper_limit_seats", "Seats with all that the level may borrow."), func(g levelGauge) float64 { return float64(g.max) }},
	{levelDesc("demand_seats_smoothed", "Seats asked for, smoothed over time."), func(g levelGauge) float64 { return g.smooth }},
}

func levelDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("apiserver_flowcontrol_"+name, help, []string{"priority_level"}, nil)
}

// Describe implements prometheus.Collector.
func (c levelGauges) Describe(to chan<- *prometheus.Desc) {
	for _, m := range levelMetrics {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c levelGauges) Collect(to chan<- prometheus.Metric) {
	for _, g := range c.read() {
		for _, m := range levelMetrics {
			to <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value(g), g.name)
		}
	}
}
