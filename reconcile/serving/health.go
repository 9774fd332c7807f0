// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// probeTimeout bounds the checks of one request.
const probeTimeout = 2 * time.Second

// Check is one named condition.
type Check struct {
	Name string
	// Probe returns what is wrong, or nil, before its context ends.
	Probe func(ctx context.Context) error
	// Ready says that only /readyz asks: a restart would not mend it.
	Ready bool
}

// Health asks checks and answers for all of them, or for the one that only names, with ?verbose and ?exclude=NAME as upstream. What is wrong
// stays inside.
func Health(w http.ResponseWriter, r *http.Request, endpoint, only string, checks []Check) {
	if only != "" {
		i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == only })
		if i < 0 {
			http.NotFound(w, r)
			return
		}
		checks = checks[i : i+1]
	}
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	excluded := r.URL.Query()["exclude"]
	var report strings.Builder
	failed := 0
	for _, c := range checks {
		switch {
		case slices.Contains(excluded, c.Name):
			fmt.Fprintf(&report, "[+]%s excluded: ok\n", c.Name)
		case c.Probe(ctx) != nil:
			failed++
			fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", c.Name)
		default:
			fmt.Fprintf(&report, "[+]%s ok\n", c.Name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case failed > 0:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", report.String(), endpoint)
	case verbose:
		fmt.Fprintf(w, "%s%s check passed\n", report.String(), endpoint)
	default:
		fmt.Fprint(w, "ok")
	}
}
