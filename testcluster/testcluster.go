// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package testcluster runs a control plane inside a Go test: API server, admission, controllers and scheduler on the
// in-memory store, without root or files, and without ports unless it is given a listener. It works inside testing/synctest bubbles.
package testcluster

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/admission/plugins"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/configured"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

// Config of a test cluster; the zero value is the usual one.
type Config struct {
	// Store instead of a new one in memory.
	Store store.Store
	// Without leaves components out.
	Without control.Components
	// Tokens are believed besides the cluster's own, and Runners run beside the API server, as in control.Config.
	Tokens  []authn.TokenAuthenticator
	Runners []apiserver.Runner
	// Authorization makes another chain of authorizers, as in control.Config.
	Authorization func(builtIn map[string]authz.Authorizer) (*configured.Chain, error)
	// Catalog holds other kinds, or versions of them, than those that are served by default, as in control.Config.
	Catalog *catalog.Catalog
	// Admission chooses other admission plugins, as in control.Config.
	Admission plugins.Choice
	// Listener to serve the API on over TLS; nil serves clients of this process only.
	Listener net.Listener
	// Log; nil discards.
	Log *slog.Logger
}

// Cluster is a running control plane.
type Cluster struct {
	plane *control.Plane
	roots *x509.CertPool
}

// New starts a cluster and waits until the API holds what every cluster begins with. The test's end stops it.
func New(t testing.TB, configs ...Config) *Cluster {
	t.Helper()
	var config Config
	if len(configs) > 0 {
		config = configs[0]
	}
	if config.Store == nil {
		config.Store = memory.New()
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	keys, err := control.NewKeys()
	if err != nil {
		t.Fatalf("make keys: %v", err)
	}
	plane, err := control.New(control.Config{
		Store: config.Store, Keys: keys, Log: config.Log, Advertise: netip.MustParseAddr("192.0.2.1"), Port: 6443,
		Listener:     config.Listener,
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		Domain:       "cluster.local", Identity: "test", Without: config.Without, Tokens: config.Tokens, Runners: config.Runners, Authorization: config.Authorization,
		Admission: config.Admission, Catalog: config.Catalog,
	})
	if err != nil {
		t.Fatalf("compose control plane: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("control plane ended: %v", err)
		}
	})
	select {
	case <-plane.Booted():
	case err := <-done:
		done <- nil
		t.Fatalf("control plane ended before it was ready: %v", err)
	}
	return &Cluster{plane: plane, roots: keys.CA.Pool()}
}

// Admin returns a client that may do everything.
func (c *Cluster) Admin() *client.Client { return c.plane.Client("admin", "system:masters") }

// As returns a client of any identity.
func (c *Cluster) As(user string, groups ...string) *client.Client {
	return c.plane.Client(user, groups...)
}

// Roots are whom clients of the listener trust.
func (c *Cluster) Roots() *x509.CertPool { return c.roots }

// Handler returns the API server's HTTP handler.
func (c *Cluster) Handler() http.Handler { return c.plane.Handler() }
