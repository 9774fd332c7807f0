// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/internal/version"
	"kogge.dev/kogge/reconcile/serving"
)

// route sends an authorized request to what serves it.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	p := infoOf(r.Context())
	if p.IsResource {
		s.serveResource(w, r)
		return
	}
	path := r.URL.Path
	if h := s.extra(path); h != nil {
		unrecorded(r)
		h.ServeHTTP(w, r)
		return
	}
	parts := splitPath(path)
	if len(parts) == 0 || parts[0] != "api" && parts[0] != "apis" {
		unrecorded(r)
	}
	switch {
	case len(parts) == 0:
		s.serveIndex(w)
	case parts[0] == "api" || parts[0] == "apis":
		s.serveDiscovery(w, r, parts)
	case parts[0] == "healthz" || parts[0] == "livez" || parts[0] == "readyz":
		s.health.serve(w, r, parts)
	case path == "/version" || path == "/version/":
		writeJSON(w, version.Info())
	case path == "/metrics":
		s.metrics.handler().ServeHTTP(w, r)
	case path == "/metrics/slis":
		promhttp.HandlerFor(s.health.results, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	case path == "/statusz":
		s.pages().Statusz(w, r)
	case path == "/flagz":
		s.pages().Flagz(w, r)
	case parts[0] == "openapi":
		s.openapi.ServeHTTP(w, r)
	case strings.HasPrefix(path, "/debug/pprof"):
		serveProfile(w, r, strings.TrimPrefix(path, "/debug/pprof"))
	default:
		http.NotFound(w, r)
	}
}

// pages are /statusz and /flagz.
func (s *Server) pages() *serving.Pages {
	return &serving.Pages{
		Component: "apiserver", Started: s.health.started, Flags: s.cfg.Flags,
		Paths: []string{"/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"},
	}
}

// extra finds the handler that Parts.Paths has for a path: the exact one, or the longest prefix that ends with a slash.
func (s *Server) extra(path string) http.Handler {
	if h := s.parts.Paths[path]; h != nil {
		return h
	}
	best := ""
	for prefix := range s.parts.Paths {
		if strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return s.parts.Paths[best]
}

// serveDiscovery answers for one aggregated group-version by asking its server, and for all else from the registry.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request, parts []string) {
	if len(parts) == 3 && parts[0] == "apis" && s.parts.Aggregate != nil {
		if h := s.parts.Aggregate(schema.GroupVersion{Group: parts[1], Version: parts[2]}); h != nil {
			h.ServeHTTP(w, r)
			return
		}
	}
	gv := schema.GroupVersion{}
	switch {
	case parts[0] == "api" && len(parts) == 2:
		gv.Version = parts[1]
	case parts[0] == "apis" && len(parts) == 3:
		gv = schema.GroupVersion{Group: parts[1], Version: parts[2]}
	}
	if gv.Version != "" && !s.registry.Serves(gv) {
		s.unknownVersion(w, r, gv.Group)
		return
	}
	s.registry.Handler(func() string { return s.cfg.Address }).ServeHTTP(w, r)
}

// serveIndex lists the paths.
func (s *Server) serveIndex(w http.ResponseWriter) {
	paths := []string{"/api", "/apis", "/healthz", "/livez", "/readyz", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/version", "/statusz", "/flagz"}
	for path := range s.parts.Paths {
		if strings.HasPrefix(path, "/debug/") {
			continue
		}
		paths = append(paths, path)
	}
	seen := map[string]bool{}
	for gvr := range s.engine.Targets() {
		for _, p := range []string{gvPath(gvr.GroupVersion()), strings.TrimSuffix(gvPath(gvr.GroupVersion()), "/"+gvr.Version)} {
			if !seen[p] {
				seen[p] = true
				paths = append(paths, p)
			}
		}
	}
	slices.Sort(paths)
	writeJSON(w, map[string][]string{"paths": slices.Compact(paths)})
}

func gvPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

func writeJSON(w http.ResponseWriter, value any) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // A client that went away is no error of ours.
}

// serveProfile serves Go's profiles to those whom the authorizer let through.
func serveProfile(w http.ResponseWriter, r *http.Request, name string) {
	switch strings.Trim(name, "/") {
	case "":
		pprof.Index(w, r)
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Handler(strings.Trim(name, "/")).ServeHTTP(w, r)
	}
}
