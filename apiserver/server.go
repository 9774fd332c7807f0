// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/apiserver/h2"
	"kogge.dev/kogge/apiserver/openapi"
	"kogge.dev/kogge/apiserver/proxy"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/patch"
)

// Server is one API server. New makes it, Run runs it.
type Server struct {
	cfg      Config
	log      *slog.Logger
	engine   *rest.Engine
	registry *discovery.Registry
	openapi  *openapi.Service
	parts    Parts
	metrics  *metrics
	health   *health
	handler  http.Handler
	kubelets *proxy.Kubelets
	// scheme knows the types of all built-in kinds; made on first use.
	scheme func() *runtime.Scheme

	streams streams
	// stopping ends when Run is told to: watches end with it.
	stopping context.Context //nolint:containedctx // The server's own life, seen by its long requests.
	stop     context.CancelFunc
}

// New builds a server from its store up. It reads nothing yet: Run does.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	patch.BoundCopies()
	s := &Server{cfg: cfg, log: cfg.Logger, health: newHealth(), scheme: sync.OnceValue(cfg.Catalog.Scheme)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.openapi = openapi.New(cfg.Catalog.All())
	engine, err := rest.NewEngine(rest.Config{
		Store: cfg.Store, Kinds: cfg.Catalog.All(), Logger: cfg.Logger, Types: s.openapi.TypeConverter, Services: cfg.Services,
	})
	if err != nil {
		return nil, err
	}
	s.engine = engine
	s.metrics = newMetrics(func(gvr schema.GroupVersionResource) bool { return engine.Lookup(gvr) != nil })
	s.metrics.registry.MustRegister(storedSize{engine})
	s.registry = discovery.NewRegistry()
	s.registry.FindStored(func(gvr schema.GroupVersionResource) schema.GroupVersionKind {
		if t := engine.Lookup(gvr); t != nil && t.Kind.Storage.Prefix != "" {
			return t.Kind.Storage.Stored()
		}
		return schema.GroupVersionKind{}
	})
	s.registry.Set("built-in", discovery.Groups(cfg.Catalog.All()))
	if cfg.Kubelet != nil {
		s.kubelets = proxy.NewKubelets(proxy.KubeletConfig{TLS: cfg.Kubelet.TLS, Dial: cfg.Kubelet.Dial, Reader: engine.Reader()})
	}
	if s.parts, err = cfg.Build(s); err != nil {
		return nil, err
	}
	if s.parts.Authorizer == nil {
		return nil, errors.New("apiserver: no authorizer")
	}
	s.metrics.registry.MustRegister(s.parts.Collectors...)
	virtual := map[schema.GroupResource]rest.Virtual{}
	for gr, f := range s.parts.Virtual {
		virtual[gr] = rest.Virtual(f)
	}
	engine.Configure(rest.Parts{Plugins: s.parts.Admission, Authorizer: s.parts.Authorizer, Virtual: virtual, Judges: s.parts.Judges})
	s.addChecks()
	s.handler = s.chain(http.HandlerFunc(s.route))
	return s, nil
}

// Handler serves the API; it may be put behind any HTTP server.
func (s *Server) Handler() http.Handler { return s.handler }

// Reader reads the cluster from the watch cache.
func (s *Server) Reader() admission.Reader { return s.engine.Reader() }

// Engine executes structured requests without authorization: for parts of the server itself only (custom resources, bootstrap).
func (s *Server) Engine() *rest.Engine { return s.engine }

// Forget removes what the metrics say of a custom resource that is served no more: names come and go, and each has dozens of series.
func (s *Server) Forget(gr schema.GroupResource) { s.metrics.forget(gr) }

// Registry tells clients what is served; sources of dynamic APIs add theirs.
func (s *Server) Registry() *discovery.Registry { return s.registry }

// OpenAPI publishes schemas; sources of dynamic APIs add theirs.
func (s *Server) OpenAPI() *openapi.Service { return s.openapi }

// Run fills the caches, starts the server's runners, serves the listener, runs the hooks, and ends when ctx does or a part fails.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.engine.Run(ctx) })
	g.Go(func() error {
		select {
		case <-s.engine.Ready():
		case <-ctx.Done():
			return nil
		}
		s.health.set("watch-cache", nil)
		for _, r := range s.parts.Runners {
			g.Go(func() error {
				if err := r.Run(ctx); err != nil && ctx.Err() == nil {
					return fmt.Errorf("%s: %w", r.Name, err)
				}
				return nil
			})
		}
		g.Go(func() error { return s.runHooks(ctx) })
		g.Go(func() error { return s.engine.RepairServices(ctx) })
		return s.serve(ctx)
	})
	g.Go(func() error {
		<-ctx.Done()
		s.health.set("shutdown", errors.New("process is shutting down"))
		s.stop()
		return nil
	})
	err := g.Wait()
	s.streams.close()
	return err
}

// WaitReady waits until the caches are filled and the hooks have run.
func (s *Server) WaitReady(ctx context.Context) error {
	select {
	case <-s.health.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hookRetry is the pause between tries of a hook.
const hookRetry = 200 * time.Millisecond

func (s *Server) runHooks(ctx context.Context) error {
	for _, h := range s.parts.Hooks {
		for {
			err := h.Run(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to stop
			}
			s.log.Info("post-start hook is tried again", "hook", h.Name, "err", err)
			s.health.set("poststarthook/"+h.Name, err)
			select {
			case <-time.After(hookRetry):
			case <-ctx.Done():
				return nil
			}
		}
		s.health.set("poststarthook/"+h.Name, nil)
	}
	s.health.markReady()
	return nil
}

// serve runs the HTTP server until ctx ends and the requests in flight are done, or have had their time.
func (s *Server) serve(ctx context.Context) error {
	if s.cfg.Listener == nil {
		<-ctx.Done()
		return nil
	}
	tls := s.cfg.TLS.Clone()
	if !slices.Contains(tls.NextProtos, "h2") {
		tls.NextProtos = append([]string{"h2", "http/1.1"}, tls.NextProtos...)
	}
	server := &http.Server{
		Handler: s.handler, TLSConfig: tls, ReadHeaderTimeout: 32 * time.Second, IdleTimeout: 90 * time.Second,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), MaxHeaderBytes: 1 << 20,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	h2.Attach(server, s.log)
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownGrace)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // What is left had its time.
		}
	})
	err := server.ServeTLS(h2.Listen(s.cfg.Listener), "", "")
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
