// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package oidc

import "github.com/prometheus/client_golang/prometheus"

// metrics under upstream's names. docs/man/kube-apiserver.md lists them.
type metrics struct {
	latency *prometheus.HistogramVec
	fetched *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_authentication_jwt_authenticator_latency_seconds", Help: "Time taken to judge a token of an issuer that is not in the cache of tokens.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"result", "jwt_issuer_hash"}),
		fetched: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds", Help: "Time of the last fetch of an issuer's keys by result.",
		}, []string{"result", "jwt_issuer_hash"}),
	}
}
