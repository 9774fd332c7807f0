// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cni is the pod network of one node: it answers the verbs of the Container Network Interface that the plugin
// kogge-cni carries to the node's socket.
//
//	containerd -> kogge-cni ADD -> socket -> Server: address (cni/ipam), veth pair, host ports (nftables)
//
// Each node has one bridge. A pod's eth0 is the far end of a veth pair whose near end is a port of the bridge in hairpin
// mode; the bridge carries the gateway addresses. Traffic that leaves the pod network is masqueraded. br_netfilter must
// be on, so that packets between pods of one bridge meet the inet hooks, and with them Services and NetworkPolicy.
//
// What a pod has is one file per attachment, written before anything is made for it and removed after all is gone: the
// only state. Addresses and host ports in memory are derived from these files.
package cni

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/cni/ipam"
	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/nft/kernel"
)

// Config describes the network of one node.
type Config struct {
	// DataDir holds the attachments; it is the network's own.
	DataDir string
	// Socket is the path of the unix socket that the plugin asks.
	Socket string
	// ConfDir is where the runtime looks for network configurations; default /etc/cni/net.d.
	ConfDir string
	// BinDir is where the runtime looks for plugins; default /opt/cni/bin.
	BinDir string
	// Bridge is the name of the node's bridge; default kogge0.
	Bridge string
	// MTU of pod links in bytes; 0 means that of the default route's link, or 1500.
	MTU int
	// ClusterCIDRs are the ranges of all pods of the cluster. Traffic of pods to these keeps its source address.
	ClusterCIDRs []netip.Prefix
	// NetNS is the path of the node's network namespace; empty for that of this process.
	NetNS string
	// Ledger records what is made outside DataDir. Required.
	Ledger *ledger.Ledger
	// Logger; default discards.
	Logger *slog.Logger
}

// confFile is the name of the network configuration. Runtimes take the first in lexical order.
const confFile = "10-kogge.conflist"

// networkName is the name of the network in its configuration.
const networkName = "kogge"

// Server is the pod network of a node.
type Server struct {
	config Config
	host   *hostnet.Host
	tables *kernel.Writer
	store  store
	// answers is closed when Run answers.
	answers chan struct{}

	// mu orders all verbs: each is a few milliseconds of netlink, and the kernel serialises those anyway.
	mu sync.Mutex

	// addresses is nil until Configure was called for the first time.
	addresses *ipam.Allocator
	// attachments by owner; what the files say.
	attachments map[ipam.Owner]attachment
	// applied is the table that the kernel has; nil before the first Configure.
	applied *nft.Table
	mtu     int
}

// New opens the node's network and reads the attachments. It changes nothing. Run must follow; it closes the server.
func New(config Config) (*Server, error) {
	config.ConfDir = cmp.Or(config.ConfDir, "/etc/cni/net.d")
	config.BinDir = cmp.Or(config.BinDir, "/opt/cni/bin")
	config.Bridge = cmp.Or(config.Bridge, "kogge0")
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if err := config.validate(); err != nil {
		return nil, err
	}
	host, err := hostnet.New(config.NetNS)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: config, host: host, tables: kernel.New(kernel.Config{NetNS: host.Namespace().FD()}),
		store: store{dir: filepath.Join(config.DataDir, "attachments")}, answers: make(chan struct{}),
	}
	if s.attachments, err = s.store.load(); err != nil {
		return nil, errors.Join(err, host.Close())
	}
	return s, nil
}

func (c Config) validate() error {
	var errs []error
	for name, path := range map[string]string{"DataDir": c.DataDir, "Socket": c.Socket, "ConfDir": c.ConfDir, "BinDir": c.BinDir} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("pod network: %s %q: need an absolute path", name, path))
		}
	}
	if len(c.Socket) > 107 {
		errs = append(errs, fmt.Errorf("pod network: Socket %q has %d bytes, at most 107 fit", c.Socket, len(c.Socket)))
	}
	if len(c.Bridge) > 15 {
		errs = append(errs, fmt.Errorf("pod network: Bridge %q: at most 15 bytes fit", c.Bridge))
	}
	if c.Ledger == nil {
		errs = append(errs, errors.New("pod network: Ledger is required"))
	}
	return errors.Join(errs...)
}

// Run installs the plugin and answers verbs until ctx ends. Until Configure has been called, ADD and STATUS answer that
// the network is not ready. What pods have stays when Run returns.
func (s *Server) Run(ctx context.Context) error {
	defer s.host.Close()
	if err := s.install(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.config.Socket), 0o755); err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	if err := os.Remove(s.config.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pod network: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.config.Socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	if err := os.Chmod(s.config.Socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("pod network: %w", err), listener.Close())
	}
	close(s.answers)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		return listener.Close()
	})
	group.Go(func() error { return s.accept(ctx, listener, group) })
	return group.Wait()
}

// accept serves connections, each on its own goroutine of the group.
func (s *Server) accept(ctx context.Context, listener *net.UnixListener, group *errgroup.Group) error {
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
		}
		if err != nil {
			s.config.Logger.Warn("accept plugin connection", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		group.Go(func() error {
			s.serve(ctx, conn)
			return nil
		})
	}
}

// Configure gives the node its pod ranges, at most one per family: it makes bridge, sysctls and table, and then writes the
// network configuration, upon which the runtime reports the network ready. It waits until Run answers, as the runtime asks at once.
// Calling it again with the same ranges repairs what was changed from outside. Ranges cannot change while pods have addresses of others, except
// by their ending.
func (s *Server) Configure(ctx context.Context, podCIDRs []netip.Prefix) error {
	select {
	case <-s.answers:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	addresses := s.addresses
	if addresses == nil || !slices.Equal(addresses.Ranges(), podCIDRs) {
		var err error
		if addresses, err = s.restoreLocked(podCIDRs); err != nil {
			return err
		}
	}
	s.addresses = addresses
	if err := s.setupLocked(ctx); err != nil {
		return err
	}
	return s.writeConf()
}

// restoreLocked makes an allocator that knows the attachments.
func (s *Server) restoreLocked(podCIDRs []netip.Prefix) (*ipam.Allocator, error) {
	addresses, err := ipam.New(podCIDRs)
	if err != nil {
		return nil, fmt.Errorf("configure pod network: %w", err)
	}
	for owner, a := range s.attachments {
		if s.stale(a) {
			// The machine was restarted: the namespace is gone, and the link with it.
			if err := s.removeLocked(owner, a); err != nil {
				return nil, err
			}
			continue
		}
		if err := addresses.Restore(owner, a.Addresses); err != nil {
			return nil, fmt.Errorf("configure pod network: %w", err)
		}
	}
	return addresses, nil
}

// stale reports whether the pod's network namespace is gone.
func (s *Server) stale(a attachment) bool {
	ns, err := hostnet.Open(a.Netns)
	if err != nil {
		return errors.Is(err, os.ErrNotExist) || errors.Is(err, hostnet.ErrNoNamespace)
	}
	_ = ns.Close()
	return false
}
