// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package configured

import "github.com/prometheus/client_golang/prometheus"

// metrics under upstream's names. docs/man/kube-apiserver.md lists them.
type metrics struct {
	decisions, evaluations, failOpen, conditionErrors, exclusions *prometheus.CounterVec
	duration                                                      *prometheus.HistogramVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "apiserver", Subsystem: "authorization", Name: name, Help: help}, labels)
	}
	return &metrics{
		decisions:       counter("decisions_total", "Decisions of an authorizer that ended the chain.", "type", "name", "decision"),
		evaluations:     counter("webhook_evaluations_total", "Tries to ask a webhook, by result.", "name", "result"),
		failOpen:        counter("webhook_evaluations_fail_open_total", "Webhooks that were passed over because they could not be asked.", "name", "result"),
		conditionErrors: counter("match_condition_evaluation_errors_total", "Match conditions that could not be evaluated.", "type", "name"),
		exclusions:      counter("match_condition_exclusions_total", "Requests that match conditions kept from a webhook.", "type", "name"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "apiserver", Subsystem: "authorization", Name: "webhook_duration_seconds", Help: "Time of one try to ask a webhook.",
			Buckets: prometheus.DefBuckets,
		}, []string{"name", "result"}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.decisions, m.evaluations, m.failOpen, m.conditionErrors, m.exclusions, m.duration}
}
