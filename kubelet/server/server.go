// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package server is the kubelet's HTTPS interface: pods, logs, exec, attach, port forwarding, statistics and metrics. Every request
// but none is authenticated (client certificate or bearer token) and authorized by the API server.
package server

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
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/client/gate"
	"kogge.dev/kogge/cri"
)

// Pod is what the server needs to know of a pod.
type Pod struct {
	// Object carries the newest status.
	Object *corev1.Pod
	// Sandbox is the ready sandbox's id, or empty.
	Sandbox string
	// Containers and Previous map names to the ids of the newest instance and the one before it; Logs maps ids to files.
	Containers, Previous map[string]string
	Logs                 map[string]string
}

// Config is what the server serves.
type Config struct {
	NodeName string
	Listener net.Listener
	// TLS holds the serving certificate; ClientCA verifies client certificates.
	TLS      *tls.Config
	ClientCA *x509.CertPool
	// Client asks the API server who a token belongs to and what a user may do. Without it nobody is let in.
	Client *client.Client
	// TokenTTL, AllowTTL and DenyTTL say for how long such answers are believed.
	TokenTTL, AllowTTL, DenyTTL time.Duration

	// Pods lists all pods, Lookup finds one by namespace and name.
	Pods   func() []Pod
	Lookup func(namespace, name string) (Pod, bool)
	// Runtime streams and executes.
	Runtime *cri.Runtime
	// Summary is /stats/summary.
	Summary func(ctx context.Context, onlyCPUAndMemory string) (*stats.Summary, error)
	// Metrics serve the paths below /metrics by their last part; "" is /metrics itself.
	Metrics map[string]http.Handler
	// Settings is shown by /configz.
	Settings any
	// Debugging turns exec, attach, logs and the like on; Profiling /debug/pprof; SystemLogs /logs.
	Debugging, Profiling, SystemLogs bool
	// Healthy returns why the kubelet does not work; nil if it does.
	Healthy func() error
	Logger  *slog.Logger
}

// Server serves one kubelet.
type Server struct {
	config Config
	gate   *gate.Gate
	mux    *http.ServeMux
}

// New makes a server.
func New(config Config) *Server {
	s := &Server{config: config, gate: newGate(config), mux: http.NewServeMux()}
	s.routes()
	return s
}

func (s *Server) routes() {
	get := func(pattern string, h http.HandlerFunc) { s.mux.HandleFunc("GET "+pattern, h) }
	get("/healthz", s.health)
	get("/healthz/{check}", s.health)
	get("/pods", s.pods)
	get("/pods/", s.pods)
	get("/runningpods/", s.runningPods)
	get("/stats/summary", s.summary)
	get("/configz", s.configz)
	for name, h := range s.config.Metrics {
		path := "/metrics"
		if name != "" {
			path += "/" + name
		}
		s.mux.Handle("GET "+path, h)
	}
	s.mux.HandleFunc("POST /checkpoint/{namespace}/{pod}/{container}", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "checkpointing containers is not supported by this node", http.StatusNotFound)
	})
	if s.config.Debugging {
		for _, path := range []string{"/{namespace}/{pod}/{container}", "/{namespace}/{pod}/{uid}/{container}"} {
			s.mux.HandleFunc("/exec"+path, s.exec)
			s.mux.HandleFunc("/attach"+path, s.attach)
			s.mux.HandleFunc("POST /run"+path, s.run)
		}
		s.mux.HandleFunc("/portForward/{namespace}/{pod}", s.portForward)
		s.mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", s.portForward)
		get("/containerLogs/{namespace}/{pod}/{container}", s.logs)
		if s.config.SystemLogs {
			s.mux.Handle("GET /logs/", http.StripPrefix("/logs/", http.FileServer(http.Dir("/var/log/"))))
		}
	}
	if s.config.Profiling {
		s.mux.HandleFunc("/debug/pprof/", pprof.Index)
		s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
}

// ServeHTTP lets in who may come in.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status, err := s.check(r); err != nil {
		if status == http.StatusInternalServerError {
			s.config.Logger.Warn("request can't be judged", "err", err)
		}
		http.Error(w, err.Error(), status)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Run serves until ctx ends. Streams that are open then are cut.
func (s *Server) Run(ctx context.Context) error {
	config := s.config.TLS.Clone()
	config.ClientAuth, config.ClientCAs = tls.RequestClientCert, s.config.ClientCA
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	if len(config.NextProtos) == 0 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	server := &http.Server{
		Handler: s, TLSConfig: config, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // the listener goes with the process
	defer stop()
	if err := server.ServeTLS(s.config.Listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve kubelet: %w", err)
	}
	return nil
}

// RunHealth answers health checks at a listener until ctx ends: ok, whatever else is wrong.
func RunHealth(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/healthz/ping"} {
		mux.HandleFunc("GET "+path, writeOK)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // the listener goes with the process
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health checks: %w", err)
	}
	return nil
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if err := s.config.Healthy(); err != nil && r.PathValue("check") != "ping" {
		http.Error(w, "[-]syncloop failed: "+err.Error(), http.StatusInternalServerError)
		return
	}
	writeOK(w, r)
}

func writeOK(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write([]byte("ok")) //nolint:errcheck // the client is gone
}

func (s *Server) pods(w http.ResponseWriter, _ *http.Request) {
	s.writePods(w, s.config.Pods())
}

// runningPods lists what the runtime runs, reduced to what it knows.
func (s *Server) runningPods(w http.ResponseWriter, _ *http.Request) {
	var out []Pod
	for _, p := range s.config.Pods() {
		if p.Sandbox == "" {
			continue
		}
		o := &corev1.Pod{}
		o.Name, o.Namespace, o.UID = p.Object.Name, p.Object.Namespace, p.Object.UID
		for _, c := range p.Object.Spec.Containers {
			if p.Containers[c.Name] != "" {
				o.Spec.Containers = append(o.Spec.Containers, corev1.Container{Name: c.Name, Image: c.Image})
			}
		}
		out = append(out, Pod{Object: o})
	}
	s.writePods(w, out)
}

func (s *Server) writePods(w http.ResponseWriter, pods []Pod) {
	list := &corev1.PodList{Items: make([]corev1.Pod, 0, len(pods))}
	list.APIVersion, list.Kind = "v1", "PodList"
	for _, p := range pods {
		list.Items = append(list.Items, *p.Object)
	}
	writeJSON(w, list)
}

func writeJSON(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(data) //nolint:errcheck // the client is gone
}

func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	summary, err := s.config.Summary(r.Context(), r.URL.Query().Get("only_cpu_and_memory"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, summary)
}

func (s *Server) configz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{"kubeletconfig": s.config.Settings})
}

// container finds the id of the container that a request names.
func (s *Server) container(r *http.Request) (string, error) {
	p, err := s.pod(r)
	if err != nil {
		return "", err
	}
	name := r.PathValue("container")
	id := p.Containers[name]
	if id == "" {
		return "", &statusError{http.StatusNotFound, fmt.Sprintf("container not found (%q)", name)}
	}
	return id, nil
}

func (s *Server) pod(r *http.Request) (Pod, error) {
	namespace, name, uid := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid")
	p, ok := s.config.Lookup(namespace, name)
	if !ok || uid != "" && string(p.Object.UID) != uid {
		return p, &statusError{http.StatusNotFound, fmt.Sprintf("pod \"%s_%s\" does not exist", name, namespace)}
	}
	return p, nil
}

// statusError is an error with the HTTP status that it is answered by.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func fail(w http.ResponseWriter, err error) {
	if e, ok := errors.AsType[*statusError](err); ok {
		http.Error(w, e.text, e.status)
		return
	}
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func splitPath(path string) (first string) {
	first, _, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first
}
