// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/proxy/rules"
)

// stuckAfter is how long a change may wait for the kernel before the proxy counts as unhealthy.
const stuckAfter = time.Minute

// taintDeleted is what the cluster autoscaler puts on a node that it is about to remove: load balancers should look elsewhere.
const taintDeleted = "ToBeDeletedByClusterAutoscaler"

// health answers health checks: of the proxy itself, and of Services on their health check node ports.
type health struct {
	proxy   *Proxy
	serving sync.WaitGroup

	mu       sync.Mutex
	last     time.Time // end of the last good sync
	leaving  bool      // the node is going away
	services map[types.NamespacedName]*check
}

// check is one Service's health check port.
type check struct {
	port   uint16
	local  int
	server *http.Server // nil if the port could not be opened
}

func newHealth(p *Proxy) *health {
	return &health{proxy: p, services: map[types.NamespacedName]*check{}}
}

func (h *health) done(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = at
}

func (h *health) node(n *corev1.Node, deleted bool) {
	leaving := deleted || n.DeletionTimestamp != nil
	for _, t := range n.Spec.Taints {
		leaving = leaving || t.Key == taintDeleted
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = leaving
}

// state reports whether rules reach the kernel, when the last ones did, and whether the node is to stay.
func (h *health) state() (healthy bool, last time.Time, staying bool) {
	waiting := h.proxy.changes.Waiting()
	h.mu.Lock()
	defer h.mu.Unlock()
	healthy = !h.last.IsZero() && (waiting.IsZero() || time.Since(waiting) < stuckAfter)
	return healthy, h.last, !h.leaving
}

// serve opens the proxy's own ports.
func (p *Proxy) serve(ctx context.Context) (*errgroup.Group, error) {
	group := &errgroup.Group{}
	endpoints := http.NewServeMux()
	endpoints.HandleFunc("/healthz", p.health.healthz)
	endpoints.HandleFunc("/livez", p.health.livez)
	metrics := http.NewServeMux()
	metrics.Handle("/metrics", promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{}))
	metrics.HandleFunc("/healthz", p.health.livez)
	metrics.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "nftables") })
	for _, s := range []struct {
		addr    string
		handler http.Handler
	}{{p.config.HealthAddress, endpoints}, {p.config.MetricsAddress, metrics}} {
		if s.addr == "" {
			continue
		}
		if err := serveHTTP(ctx, group, s.addr, s.handler); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
	}
	return group, nil
}

func serveHTTP(ctx context.Context, group *errgroup.Group, addr string, handler http.Handler) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", addr, err)
		}
		return nil
	})
	return nil
}

// report is the body of the proxy's own checks; NodeEligible is left out by /livez.
type report struct {
	LastUpdated  string `json:"lastUpdated"`
	CurrentTime  string `json:"currentTime"`
	NodeEligible *bool  `json:"nodeEligible,omitempty"`
}

func (h *health) healthz(w http.ResponseWriter, _ *http.Request) {
	healthy, last, staying := h.state()
	answer(w, healthy && staying, report{LastUpdated: last.String(), CurrentTime: time.Now().String(), NodeEligible: &staying})
}

func (h *health) livez(w http.ResponseWriter, _ *http.Request) {
	healthy, last, _ := h.state()
	answer(w, healthy, report{LastUpdated: last.String(), CurrentTime: time.Now().String()})
}

func answer(w http.ResponseWriter, good bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if good {
		w.WriteHeader(http.StatusOK)
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The client is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(body)
}

// update opens, moves and closes health check ports. It runs on the proxy's goroutine.
func (h *health) update(changed map[types.NamespacedName]rules.Health) {
	for name, now := range changed {
		h.mu.Lock()
		known := h.services[name]
		if known != nil && known.port == now.Port {
			known.local = now.LocalEndpoints
			h.mu.Unlock()
			continue
		}
		delete(h.services, name)
		h.mu.Unlock()
		if known != nil && known.server != nil {
			_ = known.server.Close()
		}
		if now.Port != 0 {
			h.open(name, now)
		}
	}
}

func (h *health) open(name types.NamespacedName, now rules.Health) {
	c := &check{port: now.Port, local: now.LocalEndpoints}
	defer func() {
		h.mu.Lock()
		h.services[name] = c
		h.mu.Unlock()
	}()
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(now.Port)))) //nolint:noctx // a listen on a local port does not block
	if err != nil {
		h.proxy.config.Log.Error("health check port not opened", "object", name, "err", err)
		if svc := h.proxy.services[name]; svc != nil && h.proxy.config.Events != nil {
			h.proxy.config.Events.Event(svc, corev1.EventTypeWarning, "FailedToStartServiceHealthcheck",
				"node %s failed to start healthcheck %q on port %d: %v", h.proxy.config.Rules.Node, name, now.Port, err)
		}
		return
	}
	c.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h.answerService(w, name, c)
	})}
	h.serving.Go(func() { _ = c.server.Serve(l) }) // ends when the server is closed
}

func (h *health) answerService(w http.ResponseWriter, name types.NamespacedName, c *check) {
	healthy, _, _ := h.state()
	h.mu.Lock()
	local := c.local
	h.mu.Unlock()
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(local))
	type object struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	answer(w, local > 0 && healthy, struct {
		Service             object `json:"service"`
		LocalEndpoints      int    `json:"localEndpoints"`
		ServiceProxyHealthy bool   `json:"serviceProxyHealthy"`
	}{object{name.Namespace, name.Name}, local, healthy})
}

// closeAll closes all health check ports and waits for those who serve them.
func (h *health) closeAll() {
	h.mu.Lock()
	for _, c := range h.services {
		if c.server != nil {
			_ = c.server.Close()
		}
	}
	clear(h.services)
	h.mu.Unlock()
	h.serving.Wait()
}
