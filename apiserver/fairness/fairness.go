// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package fairness keeps the API server from taking on more than it can carry: it bounds how many requests are under way, reads and writes
// apart. FlowSchemas and PriorityLevelConfigurations are stored and served, and not yet applied.
package fairness

import (
	"encoding/json"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kogge.dev/kogge/apiserver/request"
)

// Config of a limit. The zero value means upstream's defaults.
type Config struct {
	// MaxReads and MaxWrites bound the requests under way; 0 means 400 and 200.
	MaxReads, MaxWrites int
}

// Upstream's defaults.
const (
	defaultReads  = 400
	defaultWrites = 200
)

// retryAfter is how many seconds a refused client is told to wait.
const retryAfter = 1

// Limit returns the stop of the request path. Requests that live long (watches, and everything that connects to a node) don't count: their number
// says nothing about the work they make. Members of system:masters are never refused, so that an administrator can look at an
// overloaded server.
func Limit(cfg Config) func(next http.Handler) http.Handler {
	if cfg.MaxReads == 0 {
		cfg.MaxReads = defaultReads
	}
	if cfg.MaxWrites == 0 {
		cfg.MaxWrites = defaultWrites
	}
	reads, writes := make(chan struct{}, cfg.MaxReads), make(chan struct{}, cfg.MaxWrites)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			state := request.From(r.Context())
			if state == nil || LongRunning(&state.Info) {
				next.ServeHTTP(w, r)
				return
			}
			slots := writes
			if readOnly(state.Info.Verb) {
				slots = reads
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				next.ServeHTTP(w, r)
			default:
				if slices.Contains(state.User.Groups, request.GroupMasters) {
					next.ServeHTTP(w, r)
					return
				}
				refuse(w)
			}
		})
	}
}

func readOnly(verb string) bool { return verb == "get" || verb == "list" || verb == "head" }

// LongRunning tells requests that are held open.
func LongRunning(info *request.Info) bool {
	if !info.IsResource {
		return len(info.Path) >= len("/debug/pprof/") && info.Path[:len("/debug/pprof/")] == "/debug/pprof/"
	}
	if info.Verb == "watch" || info.Verb == "proxy" {
		return true
	}
	switch info.Subresource {
	case "attach", "exec", "proxy", "log", "portforward":
		return true
	}
	return false
}

func refuse(w http.ResponseWriter) {
	err := apierrors.NewTooManyRequests("Too many requests, please try again later.", retryAfter)
	st := err.Status()
	st.APIVersion, st.Kind = "v1", "Status"
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(st) // a client that went away is its own affair
}
