// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package ours runs kogge's API server alone, as upstream's is run: over TLS, on etcd, with no controllers that would
// change what is compared.
package ours

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"kogge.dev/kogge/apiserver/audit"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store/etcd"
	"kogge.dev/kogge/test/peers/access"
)

// Config of a server. Dir, ServiceCIDR and Advertise are required.
type Config struct {
	// Dir receives keys and the data of etcd.
	Dir         string
	ServiceCIDR netip.Prefix
	// Advertise is written into the Endpoints of the Service "kubernetes", which refuse loopback; nothing listens there.
	Advertise netip.Addr
	// Served is what the server serves; nil means the default.
	Served *catalog.Catalog
	// AuditPolicy says what is recorded in the file AuditLog; nil records nothing.
	AuditPolicy []byte
	AuditLog    string
	// Log; nil discards.
	Log *slog.Logger
}

// Server is a running API server.
type Server struct {
	keys   control.Keys
	port   int
	dir    string
	cancel context.CancelFunc
	done   chan error
}

// Start starts a server and waits until it holds what every cluster begins with.
func Start(ctx context.Context, config Config) (*Server, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	keys, err := control.OpenKeys(filepath.Join(config.Dir, "pki"))
	if err != nil {
		return nil, err
	}
	auditor, err := config.auditor()
	if err != nil {
		return nil, err
	}
	stored, err := etcd.Open(ctx, etcd.Config{DataDir: filepath.Join(config.Dir, "etcd"), Logger: config.Log})
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for the API: %w", err), stored.Close())
	}
	s := &Server{keys: keys, port: listener.Addr().(*net.TCPAddr).Port, dir: config.Dir, done: make(chan error, 1)}
	plane, err := control.New(control.Config{
		Store: stored, Keys: keys, Log: config.Log, Listener: listener, Advertise: config.Advertise, Port: s.port,
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceCIDRs: []netip.Prefix{config.ServiceCIDR},
		Domain: "cluster.local", Identity: "peer", Catalog: config.Served, Audit: auditor, Without: control.Components{Controllers: true, Scheduler: true, Cloud: true},
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close(), stored.Close())
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go func() {
		err := plane.Run(running)
		s.done <- errors.Join(err, stored.Close())
	}()
	select {
	case <-plane.Booted():
		return s, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.Stop())
	case err := <-s.done:
		cancel()
		return nil, fmt.Errorf("kogge's API server ended: %w", err)
	}
}

// auditor records in a file, if that is asked for. The file is open until the process ends.
func (c *Config) auditor() (*audit.Auditor, error) {
	if c.AuditPolicy == nil {
		return nil, nil
	}
	sink, _ := audit.File(audit.FileConfig{Path: c.AuditLog}, nil, c.Log)
	return audit.New(c.AuditPolicy, sink)
}

// Stop ends the server and closes its store.
func (s *Server) Stop() error {
	s.cancel()
	return <-s.done
}

// URL of the API server.
func (s *Server) URL() string { return fmt.Sprintf("https://127.0.0.1:%d", s.port) }

// Access returns an administrator's.
func (s *Server) Access() (access.Access, error) {
	return s.AccessOf(pki.Leaf{User: "admin", Groups: []string{"system:masters"}})
}

// AccessOf issues a client certificate for a user; the leaf's own name is not used.
func (s *Server) AccessOf(leaf pki.Leaf) (access.Access, error) {
	leaf.Name = leaf.User
	if _, err := s.keys.CA.Ensure(leaf); err != nil {
		return access.Access{}, err
	}
	file := func(name string) string { return filepath.Join(s.dir, "pki", name) }
	return access.Access{Server: s.URL(), CA: file("ca.crt"), Cert: file(leaf.Name + ".crt"), Key: file(leaf.Name + ".key")}, nil
}
