// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package dns serves the cluster's names on a node, by the Kubernetes DNS specification, and forwards other questions.
//
//	question -> cluster zone? -> snapshot
//	         -> reverse zone, address known? -> snapshot
//	         -> cache -> upstream servers
//
// Watch handlers queue objects; one goroutine turns them into immutable snapshots behind an atomic pointer, from which any number of
// questions are answered without locks.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"kogge.dev/kogge/kinds"
)

// Config of a Server.
type Config struct {
	// Addresses to listen on, over UDP and TCP: "10.96.0.10:53". They need not be assigned yet.
	Addresses []string
	// ClusterDomain is the cluster's zone; empty means cluster.local.
	ClusterDomain string
	// Reverse are the ranges of Services and pods: questions about unknown addresses in them are answered, not forwarded.
	Reverse []netip.Prefix
	// ResolvConf names the file that lists the servers for other zones; empty means /etc/resolv.conf. It is read again when it
	// changes.
	ResolvConf string
	// Upstreams replace ResolvConf: "192.0.2.1:53".
	Upstreams []string
	// HealthAddress is where /health, /ready and /metrics listen; empty means nowhere.
	HealthAddress string
	// Log is required.
	Log *slog.Logger
}

// answerTTL is how long clients may keep answers about the cluster, in seconds.
const answerTTL = 5

// gather is how long the builder waits for more changes after the first.
const gather = 5 * time.Millisecond

// Server answers DNS questions.
type Server struct {
	config   Config
	zone     zone
	forward  *forwarder
	metrics  *metrics
	snapshot atomic.Pointer[snapshot] // nil until Synced
	wake     chan struct{}            // capacity 1: a signal that is already there is enough

	mu     sync.Mutex
	queue  map[queueKey]queued
	synced bool
}

type queueKey struct {
	kind, namespace, name string
}

type queued struct {
	object  kinds.Object
	deleted bool
}

// New makes a server.
func New(config Config) (*Server, error) {
	if config.Log == nil {
		return nil, errors.New("dns: no log")
	}
	if len(config.Addresses) == 0 {
		return nil, errors.New("dns: no address to listen on")
	}
	if config.ClusterDomain == "" {
		config.ClusterDomain = "cluster.local"
	}
	if config.ResolvConf == "" {
		config.ResolvConf = "/etc/resolv.conf"
	}
	s := &Server{config: config, metrics: newMetrics(), wake: make(chan struct{}, 1), queue: map[queueKey]queued{}}
	s.zone = zone{name: strings.ToLower(dns.Fqdn(config.ClusterDomain)), ttl: answerTTL}
	var own []netip.AddrPort
	for _, text := range config.Addresses {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("dns: address %q: %w", text, err)
		}
		own = append(own, at)
		if !at.Addr().IsUnspecified() {
			s.zone.servers = append(s.zone.servers, at.Addr())
		}
	}
	forward, err := newForwarder(config, own, s.metrics)
	if err != nil {
		return nil, err
	}
	s.forward = forward
	return s, nil
}

// Registry returns the server's metrics, for who serves them elsewhere.
func (s *Server) Registry() *prometheus.Registry { return s.metrics.registry }

// Ready reports whether the server knows the cluster's names.
func (s *Server) Ready() bool { return s.snapshot.Load() != nil }

// Upsert queues a Service, an EndpointSlice or a Namespace. It never blocks. The object must not change afterwards.
func (s *Server) Upsert(obj kinds.Object) { s.enqueue(obj, false) }

// Delete queues the removal of an object.
func (s *Server) Delete(obj kinds.Object) { s.enqueue(obj, true) }

// Synced says that every object that exists was queued. Until then questions about the cluster fail, so that clients ask again.
func (s *Server) Synced() {
	s.mu.Lock()
	s.synced = true
	s.mu.Unlock()
	s.signal()
}

func (s *Server) enqueue(obj kinds.Object, deleted bool) {
	key := queueKey{namespace: obj.GetNamespace(), name: obj.GetName()}
	switch obj.(type) {
	case *corev1.Service:
		key.kind = "service"
	case *discoveryv1.EndpointSlice:
		key.kind = "slice"
	case *corev1.Namespace:
		key.kind = "namespace"
	default:
		return
	}
	s.mu.Lock()
	s.queue[key] = queued{obj, deleted}
	s.mu.Unlock()
	s.signal()
}

func (s *Server) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, addr := range s.config.Addresses {
		if err := s.listen(ctx, group, addr); err != nil {
			return fmt.Errorf("dns: %w", err)
		}
	}
	if s.config.HealthAddress != "" {
		if err := s.listenHealth(ctx, group); err != nil {
			return fmt.Errorf("dns: %w", err)
		}
	}
	group.Go(func() error {
		s.follow(ctx)
		return nil
	})
	group.Go(func() error { return s.forward.watchLoops(ctx) })
	return group.Wait()
}

// follow builds a snapshot whenever objects changed.
func (s *Server) follow(ctx context.Context) {
	b := newBuilder()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(gather):
		}
		s.mu.Lock()
		changes, synced := s.queue, s.synced
		s.queue = map[queueKey]queued{}
		s.mu.Unlock()
		for _, q := range changes {
			if q.deleted {
				b.drop(q.object)
			} else {
				b.set(q.object)
			}
		}
		if synced {
			s.snapshot.Store(b.build())
		}
	}
}

// listen serves one address over both transports. The sockets may be bound before the address is assigned.
func (s *Server) listen(ctx context.Context, group *errgroup.Group, addr string) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		})
		return errors.Join(err, failed)
	}}
	udp, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	tcp, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return errors.Join(fmt.Errorf("listen on %s: %w", addr, err), udp.Close())
	}
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: s, UDPSize: dns.DefaultMsgSize}, {Listener: tcp, Handler: s}} {
		group.Go(func() error {
			if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("serve %s: %w", addr, err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			// Shutdown fails only if the server has not started; then closing its socket ends it.
			if server.Shutdown() != nil {
				if server.PacketConn != nil {
					return server.PacketConn.Close()
				}
				return server.Listener.Close()
			}
			return nil
		})
	}
	return nil
}

func (s *Server) listenHealth(ctx context.Context, group *errgroup.Group) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.config.HealthAddress)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.config.HealthAddress, err)
	}
	server := &http.Server{Handler: s.healthHandler(), ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", s.config.HealthAddress, err)
		}
		return nil
	})
	return nil
}

// inReverse reports whether an address is in the ranges that this server answers for.
func (s *Server) inReverse(a netip.Addr) bool {
	return slices.ContainsFunc(s.config.Reverse, func(p netip.Prefix) bool { return p.Contains(a) })
}
