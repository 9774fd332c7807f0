// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// series are those of one metric by their labels K. The Prometheus library has them as well, but needs a kilobyte for the labels of each and two for a
// histogram: with a series or two for each resource that is much for a cluster of many definitions. Here K is all that is kept, and labels are made
// when somebody reads the metrics.
type series[K comparable, V any] struct {
	desc *prometheus.Desc
	// labels are the values of desc's labels.
	labels func(K) []string
	// metric is what a value looks like to its readers.
	metric func(desc *prometheus.Desc, value *V, labels []string) prometheus.Metric

	mu     sync.RWMutex
	values map[K]*V
}

// opts name a metric and its labels, those that are the same for all series too.
type opts struct {
	name, help string
	same       prometheus.Labels
	labels     []string
}

func (o *opts) desc() *prometheus.Desc {
	return prometheus.NewDesc(o.name, o.help, o.labels, o.same)
}

// newCounts makes a metric of counters, or of gauges that count.
func newCounts[K comparable](kind prometheus.ValueType, o opts, labels func(K) []string) *series[K, count] {
	return &series[K, count]{
		desc: o.desc(), labels: labels, values: map[K]*count{},
		metric: func(desc *prometheus.Desc, c *count, labels []string) prometheus.Metric {
			return prometheus.MustNewConstMetric(desc, kind, float64(c.n.Load()), labels...)
		},
	}
}

// newHistograms makes a metric of histograms with buckets up to these bounds, and one for what is above.
func newHistograms[K comparable](bounds []float64, o opts, labels func(K) []string) *series[K, histogram] {
	return &series[K, histogram]{
		desc: o.desc(), labels: labels, values: map[K]*histogram{},
		metric: func(desc *prometheus.Desc, h *histogram, labels []string) prometheus.Metric {
			return h.metric(desc, bounds, labels)
		},
	}
}

// of returns the value of a series, a new one where there is none.
func (s *series[K, V]) of(key K) *V {
	s.mu.RLock()
	v := s.values[key]
	s.mu.RUnlock()
	if v != nil {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v = s.values[key]; v == nil {
		v = new(V)
		s.values[key] = v
	}
	return v
}

// forget removes series. Who has the value of one goes on with it unseen.
func (s *series[K, V]) forget(which func(K) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.values, func(key K, _ *V) bool { return which(key) })
}

// Describe implements prometheus.Collector.
func (s *series[K, V]) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

// Collect implements prometheus.Collector.
func (s *series[K, V]) Collect(ch chan<- prometheus.Metric) {
	s.mu.RLock()
	values := maps.Clone(s.values)
	s.mu.RUnlock()
	for key, v := range values {
		ch <- s.metric(s.desc, v, s.labels(key))
	}
}

// count goes up, and down where it is a gauge's.
type count struct{ n atomic.Int64 }

func (c *count) add(n int) { c.n.Add(int64(n)) }

// buckets is the number of a histogram's, the last one for what is above all bounds. One with fewer bounds leaves the rest empty.
const buckets = 17

// histogram counts observations by the first bound that they do not exceed.
type histogram struct {
	counts [buckets]atomic.Uint64
	// sum holds the bits of a float64.
	sum atomic.Uint64
}

func (h *histogram) observe(value float64, bounds []float64) {
	i, _ := slices.BinarySearch(bounds, value)
	h.counts[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+value)) {
			return
		}
	}
}

func (h *histogram) metric(desc *prometheus.Desc, bounds []float64, labels []string) prometheus.Metric {
	upTo, total := make(map[float64]uint64, len(bounds)), uint64(0)
	for i, bound := range bounds {
		total += h.counts[i].Load()
		upTo[bound] = total
	}
	total += h.counts[len(bounds)].Load()
	return prometheus.MustNewConstHistogram(desc, total, math.Float64frombits(h.sum.Load()), upTo, labels...)
}

// Bounds of the histograms.
var (
	durations = []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10, 30, 60}
	sizes     = prometheus.ExponentialBuckets(1000, 10, 7)
)
