// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/internal/reload"
)

// roots are who may have signed a client's certificate: what the file of the authority holds, which may be more certificates than its own. They are
// read again when it changes: requests from then on are judged by the new ones, on old connections too.
type roots struct {
	// path of the file; empty for an authority that exists only in memory.
	path string
	log  *slog.Logger
	now  atomic.Pointer[bundle]
}

// bundle is what the file holds, immutable; the pool is another one after each change.
type bundle struct {
	pool  *x509.CertPool
	certs []*x509.Certificate
	text  []byte
}

// newRoots reads the file of an authority, whose own certificate stands in for a file that holds none.
func newRoots(authority *pki.Authority, name string, log *slog.Logger) (*roots, error) {
	r := &roots{log: log.With("certificate", name)}
	own := authority.CertPEM()
	if path, _, kept := authority.Files(name); kept {
		r.path = path
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("certificate authority %s: %w", name, err)
		}
		if r.set(text) == nil {
			return r, nil
		}
	}
	return r, r.set(own)
}

// set takes the certificates of a PEM text.
func (r *roots) set(text []byte) error {
	out := bundle{pool: x509.NewCertPool()}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		out.pool.AddCert(cert)
		out.certs = append(out.certs, cert)
		out.text = append(out.text, pki.EncodeCert(cert.Raw)...)
	}
	if len(out.certs) == 0 {
		return errors.New("holds no PEM certificate")
	}
	r.now.Store(&out)
	return nil
}

// get returns the roots of the moment; they must not be changed.
func (r *roots) get() *x509.CertPool { return r.now.Load().pool }

func (r *roots) pem() []byte { return r.now.Load().text }

// run follows the file until ctx ends, and calls changed after each change.
func (r *roots) run(ctx context.Context, changed func(ctx context.Context)) error {
	if r.path == "" {
		return nil
	}
	follow(ctx, reload.Config{
		Path: r.path, Name: "client_ca", Log: r.log,
		Apply: func(ctx context.Context, text []byte) error {
			if err := r.set(text); err != nil {
				return fmt.Errorf("%w: %w", reload.ErrPasses, err)
			}
			changed(ctx)
			return nil
		},
	}, func(text []byte) {
		if !bytes.Equal(text, r.pem()) && r.set(text) == nil { // changed since the start
			changed(ctx)
		}
	})
	return nil
}

// trust is what the API server believes of those who call it.
type trust struct {
	clients, frontProxy *roots

	mu sync.Mutex
	// config is the server's for connections that begin, for these two pools.
	config               *tls.Config
	forClients, forProxy *x509.CertPool
}

func newTrust(keys Keys, log *slog.Logger) (*trust, error) {
	clients, err := newRoots(keys.CA, "ca", log)
	if err != nil {
		return nil, err
	}
	frontProxy, err := newRoots(keys.ProxyCA, "front-proxy-ca", log)
	return &trust{clients: clients, frontProxy: frontProxy}, err
}

// serving returns a server's configuration that names the roots of the moment: clients show a certificate of somebody who is named.
func (t *trust) serving(base *tls.Config) *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	clients, frontProxy := t.clients.get(), t.frontProxy.get()
	if t.config == nil || clients != t.forClients || frontProxy != t.forProxy {
		t.config, t.forClients, t.forProxy = base.Clone(), clients, frontProxy
		t.config.ClientCAs = x509.NewCertPool()
		for _, cert := range slices.Concat(t.clients.now.Load().certs, t.frontProxy.now.Load().certs) {
			t.config.ClientCAs.AddCert(cert)
		}
	}
	return t.config
}

func (t *trust) run(ctx context.Context, changed func(ctx context.Context)) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range []*roots{t.clients, t.frontProxy} {
		g.Go(func() error { return one.run(ctx, changed) })
	}
	return g.Wait()
}
