// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kogge.dev/kogge/reconcile/serving"
)

// health answers /healthz, /livez and /readyz from named checks.
type health struct {
	// ready is closed when the hooks have run.
	ready   chan struct{}
	once    sync.Once
	started time.Time

	mu     sync.Mutex
	checks []check

	// results are what /metrics/slis tells of the checks when they were asked.
	results *prometheus.Registry
	last    *prometheus.GaugeVec
	counts  *prometheus.CounterVec
}

// check is one named condition. probe is asked at each request; without one, err is the last word of whoever owns the check.
type check struct {
	name  string
	probe func(ctx context.Context) error
	err   error
	// live says whether the check counts for /livez: those that a restart would mend.
	live bool
}

var errNotYet = errors.New("not finished")

func newHealth() *health {
	h := &health{
		ready: make(chan struct{}), started: time.Now(), results: prometheus.NewRegistry(),
		last:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubernetes_healthcheck", Help: "The last result of a check."}, []string{"name", "type"}),
		counts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubernetes_healthchecks_total", Help: "Results of a check."}, []string{"name", "type", "status"}),
	}
	h.results.MustRegister(h.last, h.counts)
	return h
}

// noting is a probe whose results are counted.
func (h *health) noting(endpoint, name string, probe func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		err := probe(ctx)
		value, status := 1.0, "success"
		if err != nil {
			value, status = 0, "error"
		}
		h.last.WithLabelValues(name, endpoint).Set(value)
		h.counts.WithLabelValues(name, endpoint, status).Inc()
		return err
	}
}

func (s *Server) addChecks() {
	h := s.health
	h.checks = append(h.checks,
		check{name: "ping", live: true, probe: func(context.Context) error { return nil }},
		check{name: "log", live: true, probe: func(context.Context) error { return nil }},
		check{name: "etcd", live: true, probe: func(ctx context.Context) error {
			_, err := s.cfg.Store.Revision(ctx)
			return err
		}},
		check{name: "watch-cache", err: errNotYet},
	)
	for _, hook := range s.parts.Hooks {
		h.checks = append(h.checks, check{name: "poststarthook/" + hook.Name, err: errNotYet, live: true})
	}
	for _, c := range s.parts.Checks {
		h.checks = append(h.checks, check{name: c.Name, probe: c.Probe})
	}
	h.checks = append(h.checks, check{name: "shutdown"})
}

// set changes the state of a check without a probe.
func (h *health) set(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.checks {
		if h.checks[i].name == name {
			h.checks[i].err = err
		}
	}
}

func (h *health) markReady() { h.once.Do(func() { close(h.ready) }) }

// serve answers /livez, /livez/NAME, ?verbose and ?exclude=NAME, and the same below the other two.
func (h *health) serve(w http.ResponseWriter, r *http.Request) {
	endpoint, only, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	h.mu.Lock()
	var asked []serving.Check
	for _, c := range h.checks {
		if only == "" && (endpoint == "livez" && !c.live || endpoint == "healthz" && c.name == "shutdown") {
			continue
		}
		probe := c.probe
		if probe == nil {
			probe = func(context.Context) error { return c.err }
		}
		asked = append(asked, serving.Check{Name: c.name, Probe: h.noting(endpoint, c.name, probe)})
	}
	h.mu.Unlock()
	serving.Health(w, r, endpoint, asked)
}
