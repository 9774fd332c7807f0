// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// health answers /healthz, /livez and /readyz from named checks.
type health struct {
	// ready is closed when the hooks have run.
	ready chan struct{}
	once  sync.Once

	mu     sync.Mutex
	checks []check
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

func newHealth() *health { return &health{ready: make(chan struct{})} }

// probeTimeout bounds one check.
const probeTimeout = 2 * time.Second

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
func (h *health) serve(w http.ResponseWriter, r *http.Request, parts []string) {
	h.mu.Lock()
	checks := slices.Clone(h.checks)
	h.mu.Unlock()
	if only := strings.Join(parts[1:], "/"); only != "" {
		i := slices.IndexFunc(checks, func(c check) bool { return c.name == only })
		if i < 0 {
			http.NotFound(w, r)
			return
		}
		h.write(w, parts[0], checks[i:i+1], r)
		return
	}
	if parts[0] == "livez" {
		checks = slices.DeleteFunc(checks, func(c check) bool { return !c.live })
	}
	if parts[0] == "healthz" {
		checks = slices.DeleteFunc(checks, func(c check) bool { return c.name == "shutdown" })
	}
	h.write(w, parts[0], checks, r)
}

func (h *health) write(w http.ResponseWriter, endpoint string, checks []check, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	excluded := r.URL.Query()["exclude"]
	var report strings.Builder
	failed := 0
	for _, c := range checks {
		if slices.Contains(excluded, c.name) {
			fmt.Fprintf(&report, "[+]%s excluded: ok\n", c.name)
			continue
		}
		err := c.err
		if c.probe != nil {
			err = c.probe(ctx)
		}
		if err != nil {
			failed++
			fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", c.name)
			continue
		}
		fmt.Fprintf(&report, "[+]%s ok\n", c.name)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if failed > 0 {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", report.String(), endpoint)
		return
	}
	if _, verbose := r.URL.Query()["verbose"]; verbose {
		fmt.Fprintf(w, "%s%s check passed\n", report.String(), endpoint)
		return
	}
	_, _ = w.Write([]byte("ok")) // A client that went away is no error of ours.
}
