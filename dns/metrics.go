// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"net/http"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type metrics struct {
	registry         *prometheus.Registry
	answers          *prometheus.CounterVec
	duration         *prometheus.HistogramVec
	cacheHits        prometheus.Counter
	cacheMisses      prometheus.Counter
	upstreamFailures prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "kogge_dns", Name: name, Help: help})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "kogge_dns", Name: "answers_total", Help: "Answers by where they came from, type asked and response code.",
		}, []string{"from", "type", "rcode"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "kogge_dns", Name: "answer_duration_seconds", Help: "Time from question to answer.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 4, 10),
		}, []string{"from"}),
		cacheHits:        counter("cache_hits_total", "Forwarded questions answered from the cache."),
		cacheMisses:      counter("cache_misses_total", "Forwarded questions that the cache could not answer."),
		upstreamFailures: counter("upstream_failures_total", "Exchanges with upstream servers that failed."),
	}
	m.registry.MustRegister(m.answers, m.duration, m.cacheHits, m.cacheMisses, m.upstreamFailures)
	return m
}

// typeLabel bounds the label, whatever clients ask for.
func typeLabel(req *dns.Msg) string {
	if len(req.Question) == 0 {
		return "none"
	}
	switch t := req.Question[0].Qtype; t {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeHTTPS:
		return dns.TypeToString[t]
	default:
		return "other"
	}
}

func (m *metrics) answered(from string, req, resp *dns.Msg, took time.Duration) {
	m.answers.WithLabelValues(from, typeLabel(req), dns.RcodeToString[resp.Rcode]).Inc()
	m.duration.WithLabelValues(from).Observe(took.Seconds())
}

// healthHandler serves /health (the process answers), /ready (the cluster's names are known) and /metrics.
func (s *Server) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.Ready() {
			http.Error(w, "waiting for the cluster's services", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "OK")
	})
	mux.Handle("/metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}
