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

	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/internal/version"
	"kogge.dev/kogge/reconcile/serving"
)

// route sends an authorized request to what serves it.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "//") { // Elsewhere empty parts are passed over.
		http.NotFound(w, r)
		return
	}
	p := infoOf(r.Context())
	if p.IsResource {
		s.serveResource(w, r)
		return
	}
	if h := s.extra(path); h != nil {
		unrecorded(r)
		h.ServeHTTP(w, r)
		return
	}
	parts := splitPath(path)
	if len(parts) == 0 || parts[0] != "api" && parts[0] != "apis" {
		unrecorded(r)
	}
	if d, ok := s.parts.Documents[strings.TrimSuffix(path, "/")]; ok {
		s.serveDocument(w, r, &d)
		return
	}
	switch {
	case len(parts) == 0 || path == "/index.html":
		s.serveIndex(w)
	case parts[0] == "api" || parts[0] == "apis":
		s.serveDiscovery(w, r, parts)
	case parts[0] == "healthz" || parts[0] == "livez" || parts[0] == "readyz":
		s.health.serve(w, r)
	case path == "/version" || path == "/version/":
		if err := routed(r, string(codec.JSON)); err != nil {
			s.fail(w, r, err)
			return
		}
		writeJSON(w, version.Info())
	case path == "/metrics":
		s.metrics.handler(s.health.started).ServeHTTP(w, r)
	case path == "/metrics/slis":
		promhttp.HandlerFor(s.health.results, promhttp.HandlerOpts{ProcessStartTime: s.health.started}).ServeHTTP(w, r)
	case path == "/statusz":
		s.pages().Statusz(w, r)
	case path == "/flagz":
		s.pages().Flagz(w, r)
	case parts[0] == "openapi":
		s.openapi.ServeHTTP(w, r)
	case parts[0] == "debug" && len(parts) > 1 && parts[1] == "pprof":
		serveProfile(w, r, strings.TrimPrefix(path, "/debug/pprof"))
	default:
		http.NotFound(w, r)
	}
}

// routed refuses what upstream's router refuses for documents: other methods than GET, and clients that name none of the media types.
func routed(r *http.Request, types ...string) error {
	if r.Method != http.MethodGet {
		return errNoMethod
	}
	return acceptable(r, types)
}

// serveDocument answers with one of Parts.Documents.
func (s *Server) serveDocument(w http.ResponseWriter, r *http.Request, d *Document) {
	if err := routed(r, d.MediaType); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", d.MediaType)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(d.Content) // A client that went away is no error of ours.
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
	// The lists of groups and what a group has are not behind upstream's router, nor are custom resources.
	if parts[0] == "api" || len(parts) == 3 && !s.custom(gv.Group) {
		if err := routed(r, objectTypes...); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	s.registry.Handler(discovery.Front{
		Address: func() string { return s.cfg.Address },
		Send: func(w http.ResponseWriter, r *http.Request, a codec.Accepted, body []byte) {
			s.send(w, r, http.StatusOK, a.Format, pretty(r, a), body)
		},
		Refuse: func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, notAcceptable()) },
		Fail:   s.fail,
	}).ServeHTTP(w, r)
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
	for path := range s.parts.Documents {
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

// serveProfile serves Go's profiles to those whom the authorizer let through. The command line is none: it may hold secrets.
func serveProfile(w http.ResponseWriter, r *http.Request, name string) {
	switch name {
	case "":
		http.Redirect(w, r, "/debug/pprof/", http.StatusFound) // The links of the page count from there.
	case "/":
		pprof.Index(w, r)
	case "/profile":
		pprof.Profile(w, r)
	case "/symbol":
		pprof.Symbol(w, r)
	case "/trace":
		pprof.Trace(w, r)
	default:
		pprof.Handler(strings.TrimPrefix(name, "/")).ServeHTTP(w, r)
	}
}
