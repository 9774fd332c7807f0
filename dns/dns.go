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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"kogge.dev/kogge/reconcile/changes"
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

// period is the least time between two snapshots.
const period = 5 * time.Millisecond

// Server answers DNS questions.
type Server struct {
	config   Config
	zone     zone
	forward  *forwarder
	metrics  *metrics
	changes  *changes.Queue           // of Services, EndpointSlices and Namespaces
	snapshot atomic.Pointer[snapshot] // nil until the changes are complete
	builder  *builder                 // owned by the goroutine that runs changes
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
	s := &Server{config: config, metrics: newMetrics(), builder: newBuilder()}
	s.changes = changes.New(changes.Config{Apply: s.build, Period: period, Log: config.Log})
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
		s.changes.Run(ctx)
		return nil
	})
	group.Go(func() error { return s.forward.watchLoops(ctx) })
	return group.Wait()
}

// build makes a snapshot with the changes.
func (s *Server) build(batch changes.Batch) (worked bool, err error) {
	for _, c := range batch.Changes {
		if c.Deleted {
			s.builder.drop(c.Object)
		} else {
			s.builder.set(c.Object)
		}
	}
	s.snapshot.Store(s.builder.build())
	return true, nil
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
