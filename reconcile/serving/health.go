// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
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

// Health asks the checks of an endpoint and answers for all of them, with ?verbose and ?exclude=NAME as upstream. What is wrong stays inside. Below the
// endpoint, by its name, a check answers for itself, and says what is wrong: who may ask that is authorized.
func Health(w http.ResponseWriter, r *http.Request, endpoint string, checks []Check) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
	defer cancel()
	if only, below := strings.CutPrefix(r.URL.Path, "/"+endpoint+"/"); below {
		one(ctx, w, r, only, checks)
		return
	}
	excluded := map[string]bool{} // Whether a check has the name.
	for _, name := range r.URL.Query()["exclude"] {
		excluded[name] = false
	}
	var report strings.Builder
	failed := 0
	for _, c := range checks {
		_, without := excluded[c.Name]
		switch {
		case without:
			excluded[c.Name] = true
			fmt.Fprintf(&report, "[+]%s excluded: ok\n", c.Name)
		case c.Probe(ctx) != nil:
			failed++
			fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", c.Name)
		default:
			fmt.Fprintf(&report, "[+]%s ok\n", c.Name)
		}
	}
	var unknown []string
	for name, known := range excluded {
		if !known {
			unknown = append(unknown, strconv.Quote(name))
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		fmt.Fprintf(&report, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(unknown, ","))
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

// one answers for the check of a name.
func one(ctx context.Context, w http.ResponseWriter, r *http.Request, name string, checks []Check) {
	i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		http.NotFound(w, r)
		return
	}
	if err := checks[i].Probe(ctx); err != nil {
		http.Error(w, fmt.Sprintf("internal server error: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "ok")
}
