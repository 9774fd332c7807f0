// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, test := range []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred[:1], 50, 1}, {hundred[:3], 50, 2}, {nil, 50, 0}} {
		if got := Percentile(test.sorted, test.p); got != test.want {
			t.Errorf("Percentile(%d values, %v) = %d, want %d", len(test.sorted), test.p, got, test.want)
		}
	}
}

func TestRunSendsEachRequestOnceAndStopsAtAWrongAnswer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came by %s", r.Proto)
		}
		asked.Add(1)
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusConflict)
		}
		_, _ = w.Write([]byte("yes"))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	trust := x509.NewCertPool()
	trust.AddCert(server.Certificate())
	c := New(server.URL, &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}, 2)
	defer c.Close()
	result, err := c.Run(t.Context(), 4, 50, func(int) Request { return Request{Method: "GET", Path: "/good"} }, func(_ int, body []byte) error {
		if string(body) != "yes" {
			return errors.New("wrong body")
		}
		return nil
	})
	if err != nil || result.Count != 50 || asked.Load() != 50 || result.Percentile(50) <= 0 {
		t.Errorf("Run() = %+v, %v after %d requests", result, err, asked.Load())
	}
	_, err = c.Run(context.Background(), 4, 1_000_000, func(int) Request { return Request{Method: "GET", Path: "/bad"} }, nil)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != http.StatusConflict {
		t.Errorf("Run() = %v, want the refusal", err)
	}
}
