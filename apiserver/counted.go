// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The families whose series name resources. There are series of every custom resource, whether anybody ever asks for it or not. In prometheus'
// vectors each of them is some thirty small objects; here all that is counted of a target is one, and becomes metrics when somebody looks.
var (
	targetLabels  = []string{"verb", "group", "version", "resource", "subresource", "scope"}
	watchedLabels = []string{"group", "version", "resource"}
	ofServer      = prometheus.Labels{"component": "apiserver"}
	ofAnswer      = prometheus.Labels{"component": "apiserver", "dry_run": ""}

	requestsDesc = prometheus.NewDesc("apiserver_request_total", "Requests by verb, target and code.", append([]string{"code"}, targetLabels...), ofAnswer)
	durationDesc = prometheus.NewDesc("apiserver_request_duration_seconds", "Response latency of requests that are not long-running.", targetLabels, ofAnswer)
	longDesc     = prometheus.NewDesc("apiserver_longrunning_requests", "Long-running requests being served.", targetLabels, ofServer)
	sizesDesc    = prometheus.NewDesc("apiserver_response_sizes", "Response sizes in bytes.", targetLabels, ofServer)
	eventsDesc   = prometheus.NewDesc("apiserver_watch_events_total", "Events sent to watchers.", watchedLabels, nil)
	bytesDesc    = prometheus.NewDesc("apiserver_watch_events_bytes_total", "Bytes of events sent to watchers.", watchedLabels, nil)

	durationBounds = [...]float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10, 30, 60}
	sizesBounds    = [...]float64{1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}
)

// target is what requests are for: the values of targetLabels.
type target struct{ verb, group, version, resource, subresource, scope string }

func (t target) labels() []string {
	return []string{t.verb, t.group, t.version, t.resource, t.subresource, t.scope}
}

// own returns the target with a copy of its names: those of a request are pieces of its URL, which would stay in memory with them.
func (t target) own() target {
	rest := t.group + t.version + t.resource + t.subresource
	for _, name := range []*string{&t.group, &t.version, &t.resource, &t.subresource} {
		*name, rest = rest[:len(*name)], rest[len(*name):]
	}
	return t
}

// counted is what is counted of a target since some time. A family in which nothing was counted has no series of it.
type counted struct {
	target
	since time.Time

	mu sync.Mutex

	codes    []codeCount
	room     [2]codeCount                           // of codes, as long as it is enough
	duration histogram[[len(durationBounds)]uint64] // in seconds
	sizes    histogram[[len(sizesBounds)]uint64]    // in bytes
	long     int                                    // requests being served
	hadLong  bool
}

// codeCount is how many requests were answered with a code.
type codeCount struct {
	code int
	n    uint64
}

func newCounted(t target) *counted {
	c := &counted{target: t.own(), since: time.Now()}
	c.codes = c.room[:0]
	return c
}

// enter counts a long-running request that begins, and leave its end.
func (c *counted) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.long++
	c.hadLong = true
}

func (c *counted) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.long--
}

// answer counts a code.
func (c *counted) answer(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerLocked(code)
}

func (c *counted) answerLocked(code int) {
	i := slices.IndexFunc(c.codes, func(have codeCount) bool { return have.code == code })
	if i < 0 {
		i = len(c.codes)
		c.codes = append(c.codes, codeCount{code: code})
	}
	c.codes[i].n++
}

// answerAfter counts a code, and how long it took.
func (c *counted) answerAfter(code int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answerLocked(code)
	c.duration.observe(durationBounds[:], took.Seconds())
}

// size counts an answer of n bytes.
func (c *counted) size(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes.observe(sizesBounds[:], float64(n))
}

// collect sends what was counted.
func (c *counted) collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	codes, duration, sizes, long, hadLong := slices.Clone(c.codes), c.duration, c.sizes, c.long, c.hadLong
	c.mu.Unlock()
	labels := c.labels()
	for _, code := range codes {
		ch <- counter(requestsDesc, code.n, c.since, append([]string{strconv.Itoa(code.code)}, labels...)...)
	}
	duration.collect(durationDesc, durationBounds[:], c.since, labels, ch)
	sizes.collect(sizesDesc, sizesBounds[:], c.since, labels, ch)
	if hadLong {
		ch <- prometheus.MustNewConstMetric(longDesc, prometheus.GaugeValue, float64(long), labels...)
	}
}

// histogram counts values by the first bound that is not below them, if any is; who has one also knows its bounds. It is exactly as large as they are many: of
// the size of a node of a schema, which definitions leave plenty of as garbage, each would stay on a page of its own.
type histogram[C [len(durationBounds)]uint64 | [len(sizesBounds)]uint64] struct {
	counts C
	all    uint64
	sum    float64
}

func (h *histogram[C]) observe(bounds []float64, v float64) {
	if i, _ := slices.BinarySearch(bounds, v); i < len(bounds) {
		h.counts[i]++
	}
	h.all++
	h.sum += v
}

// collect sends a histogram unless it is empty.
func (h *histogram[C]) collect(desc *prometheus.Desc, bounds []float64, since time.Time, labels []string, ch chan<- prometheus.Metric) {
	if h.all == 0 {
		return
	}
	buckets := make(map[float64]uint64, len(bounds))
	n := uint64(0)
	for i, bound := range bounds {
		n += h.counts[i]
		buckets[bound] = n
	}
	ch <- prometheus.MustNewConstHistogramWithCreatedTimestamp(desc, h.all, h.sum, buckets, since, labels...)
}

// watched is what is counted of the watches of a resource since some time.
type watched struct {
	schema.GroupVersionResource
	since         time.Time
	events, bytes atomic.Uint64
}

// event counts one of n bytes. A nil watched counts nothing: its resource is served no more.
func (w *watched) event(n int) {
	if w != nil {
		w.events.Add(1)
		w.bytes.Add(uint64(n))
	}
}

func (w *watched) collect(ch chan<- prometheus.Metric) {
	ch <- counter(eventsDesc, w.events.Load(), w.since, w.Group, w.Version, w.Resource)
	ch <- counter(bytesDesc, w.bytes.Load(), w.since, w.Group, w.Version, w.Resource)
}

func counter(desc *prometheus.Desc, n uint64, since time.Time, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, float64(n), since, labels...)
}
