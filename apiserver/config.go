// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package apiserver is the front desk: it wires store, watch cache, request path and HTTP handlers into one server, and gives components of
// the same process a client that skips the socket and nothing else.
//
//	TLS ─ recover ─ request info ─ authenticate ─ audit ─ impersonate ─ fairness ─ authorize ─┬─ resources ── rest.Engine ── store, cache
//	                                                                                          ├─ discovery, openapi, health, metrics
//	in process: fixed user ──── request info ──── audit ──── authorize ───────────────────────┘
package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/audit"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store"
)

// Config of a Server. Store, Catalog, Logger and Build are required; the zero value of the rest is the default.
type Config struct {
	Store   store.Store
	Catalog *catalog.Catalog
	Logger  *slog.Logger
	// Build makes what depends on the server's own view of the cluster. New calls it once, when reader, engine, registry and in-process
	// clients of the server can be taken (not yet used: the caches are filled by Run).
	Build func(s *Server) (Parts, error)

	// Listener to serve on; nil serves nothing (in-process clients and Handler work without). TLS is required with a listener.
	Listener net.Listener
	TLS      *tls.Config
	// Addresses are answered to clients that ask where the API is (host:port); informative only.
	Address string

	// Kubelet reaches nodes for logs, exec, attach, port-forward and proxy; nil refuses those requests.
	Kubelet *Kubelet
	// Services configures the allocation of Service addresses and ports.
	Services rest.ServiceConfig
	// Audit records requests as a policy says; nil records none.
	Audit *audit.Auditor

	// Flags are what /flagz tells of how the server was configured, by the names of kube-apiserver's flags; no secrets.
	Flags map[string]string

	// MinWatchTimeout is the shortest time after which the server ends a watch that named none; it picks up to twice that. Default 30 min.
	MinWatchTimeout time.Duration
	// ShutdownGrace bounds how long Run waits for requests in flight when its context ends. Default 5 s.
	ShutdownGrace time.Duration
}

// Parts are what the neighbouring stops of the request path contribute.
type Parts struct {
	// Authenticators are asked in order; nobody's request is anonymous, if Anonymous allows the path, else 401.
	Authenticators []authn.Authenticator
	// Anonymous tells which paths unauthenticated requests may reach; nil means all (authorization still decides).
	Anonymous func(path string) bool
	// Authorizer decides; required.
	Authorizer authz.Authorizer
	// Admission plugins in order.
	Admission []admission.Plugin
	// Virtual resources that answer a create without storing: reviews, and subresources such as serviceaccounts/token. The key's
	// Resource is "resource" or "resource/subresource". request.From gives the function user, namespace and name.
	Virtual map[schema.GroupResource]VirtualFunc
	// Judges validate objects of resources whose descriptors may not reach all that is needed for it; optional.
	Judges map[schema.GroupResource]rest.Judge
	// Documents are read by GET at their exact paths ("/openid/v1/jwks"), with or without a slash at the end.
	Documents map[string]Document
	// Paths are extra handlers by exact path, or by prefix where the key ends with a slash, behind authentication and authorization.
	Paths map[string]http.Handler
	// Fairness limits requests; it wraps everything after authentication and impersonation. nil limits nothing.
	Fairness func(next http.Handler) http.Handler
	// Collectors are metrics beside the server's own.
	Collectors []prometheus.Collector
	// Aggregate returns the handler of a group-version that another server serves, or nil.
	Aggregate func(gv schema.GroupVersion) http.Handler
	// Runners run beside the server once the caches are filled, for as long as it runs (CRDs, aggregation).
	Runners []Runner
	// Checks are asked by /healthz and /readyz beside the server's own.
	Checks []Check
	// Hooks run once, in order, when requests are served; /readyz fails until they are done.
	Hooks []Hook
}

// Document is a public text that never changes.
type Document struct {
	MediaType string
	Content   []byte
}

// VirtualFunc answers a create of a virtual resource. obj is the client's object, defaulted; the function may change and return it.
type VirtualFunc func(ctx context.Context, obj runtime.Object) (runtime.Object, error)

// Runner is a named part of the server that runs until its context ends.
type Runner struct {
	Name string
	Run  func(ctx context.Context) error
}

// Check is a named condition of the server's health. A restart would not mend it: /livez does not ask.
type Check struct {
	Name  string
	Probe func(ctx context.Context) error
}

// Hook is a named step after the start. It is tried again until it succeeds.
type Hook struct {
	Name string
	Run  func(ctx context.Context) error
}

// Kubelet says how the server reaches kubelets.
type Kubelet struct {
	// TLS carries the client certificate and the trust in kubelet certificates.
	TLS *tls.Config
	// Dial connects to a node address; nil dials directly.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c *Config) validate() error {
	switch {
	case c.Store == nil:
		return errors.New("apiserver: no store")
	case c.Catalog == nil:
		return errors.New("apiserver: no catalog")
	case c.Logger == nil:
		return errors.New("apiserver: no logger")
	case c.Build == nil:
		return errors.New("apiserver: no build function")
	case c.Listener != nil && c.TLS == nil:
		return errors.New("apiserver: a listener needs TLS")
	}
	if c.MinWatchTimeout == 0 {
		c.MinWatchTimeout = 30 * time.Minute
	}
	if c.ShutdownGrace == 0 {
		c.ShutdownGrace = 5 * time.Second
	}
	return nil
}
