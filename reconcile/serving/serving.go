// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package serving is the secure port of a component that is an API client: health, metrics, configuration and profiles, for those whom
// the API server lets.
//
//	request -> /healthz, /livez, /readyz: answered
//	        -> anything else: who is it (client certificate, token), what may it do (SubjectAccessReview) -> answered
package serving

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/client/gate"
)

// keep is for how long answers of the API server are believed, as upstream does.
const keep = 10 * time.Second

// Config of a Server.
type Config struct {
	// Listener and Certificate are required.
	Listener    net.Listener
	Certificate tls.Certificate
	// Client is the component's own; it must be allowed to create token and subject access reviews.
	Client *client.Client
	// Checks besides ping, which is always well.
	Checks []Check
	// Metrics is served at /metrics.
	Metrics *prometheus.Registry
	// Configuration is served at /configz, by the names of its parts.
	Configuration map[string]any
	// Pages are served at /statusz and /flagz; without them the paths are not there.
	Pages *Pages
	// Log is required.
	Log *slog.Logger
}

// Server serves one component.
type Server struct {
	config Config
	gate   *gate.Gate
	mux    *http.ServeMux

	mu    sync.Mutex
	roots *x509.CertPool // what verifies client certificates; nil until the cluster has told
}

// New makes a server.
func New(config Config) *Server {
	s := &Server{config: config, mux: http.NewServeMux()}
	s.gate = gate.New(gate.Config{Client: config.Client, ClientCA: s.clientCA, TokenTTL: keep, AllowTTL: keep, DenyTTL: keep})
	s.config.Checks = append([]Check{{Name: "ping", Probe: func(context.Context) error { return nil }}}, config.Checks...)
	for _, endpoint := range open {
		s.mux.HandleFunc(endpoint, s.health)
		s.mux.HandleFunc(endpoint+"/", s.health)
	}
	s.mux.Handle("/metrics", promhttp.HandlerFor(config.Metrics, promhttp.HandlerOpts{}))
	s.mux.HandleFunc("/configz", s.configz)
	if config.Pages != nil {
		s.mux.HandleFunc("/statusz", config.Pages.Statusz)
		s.mux.HandleFunc("/flagz", config.Pages.Flagz)
	}
	s.mux.HandleFunc("/debug/pprof/", pprof.Index)
	s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return s
}

// open are the paths that everybody may ask, but not what is below them.
var open = []string{"/healthz", "/livez", "/readyz"}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	informers := client.NewInformers(s.config.Client, s.config.Log)
	trust := client.InformerFor[*corev1.ConfigMap](informers, client.Selection{
		Namespace: metav1.NamespaceSystem, FieldSelector: "metadata.name=extension-apiserver-authentication",
	})
	trust.Handle(client.Handler[*corev1.ConfigMap]{
		Add: s.trust, Update: func(_, now *corev1.ConfigMap) { s.trust(now) }, Delete: func(*corev1.ConfigMap) { s.trust(&corev1.ConfigMap{}) },
	})
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{s.config.Certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12,
			NextProtos: []string{"h2", "http/1.1"},
		},
		ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return informers.Run(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	g.Go(func() error {
		if err := server.ServeTLS(s.config.Listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", s.config.Listener.Addr(), err)
		}
		return nil
	})
	return g.Wait()
}

// trust takes over the certificate authority of clients that the API server publishes.
func (s *Server) trust(published *corev1.ConfigMap) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(published.Data["client-ca-file"])) {
		pool = nil
	}
	s.mu.Lock()
	s.roots = pool
	s.mu.Unlock()
}

func (s *Server) clientCA() *x509.CertPool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roots
}

// ServeHTTP lets in who may come in.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.judge(r); err != nil {
		var status *apierrors.StatusError
		if !errors.As(err, &status) {
			s.config.Log.Warn("request can't be judged", "err", err)
			status = apierrors.NewInternalError(err)
		}
		answer := status.ErrStatus
		answer.APIVersion, answer.Kind = "v1", "Status"
		writeJSON(w, int(answer.Code), answer)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) judge(r *http.Request) error {
	user, err := s.gate.Authenticate(r)
	switch {
	case errors.Is(err, gate.ErrUnauthorized):
		return apierrors.NewUnauthorized("Unauthorized")
	case err != nil:
		return err
	case user == nil:
		user = &gate.User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}
	}
	if slices.Contains(open, r.URL.Path) || slices.Contains(user.Groups, "system:masters") {
		return nil
	}
	q := gate.Question{Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	allowed, err := s.gate.Allowed(r.Context(), user, q)
	if err != nil {
		return err
	}
	if !allowed {
		return apierrors.NewForbidden(schema.GroupResource{}, "", fmt.Errorf("User %q cannot %s path %q", user.Name, q.Verb, q.Path)) //nolint:staticcheck // upstream's text
	}
	return nil
}

// health asks the checks that an endpoint is about.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	endpoint, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	checks := slices.DeleteFunc(slices.Clone(s.config.Checks), func(c Check) bool { return c.Ready && endpoint != "readyz" })
	Health(w, r, endpoint, checks)
}

func (s *Server) configz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.config.Configuration)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(data) // A client that went away is no error of ours.
}
