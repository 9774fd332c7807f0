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

	mu sync.Mutex
	// pool is another one after each change; certs and text are what it holds.
	pool  *x509.CertPool
	certs []*x509.Certificate
	text  []byte
}

// newRoots reads the file of an authority, whose own certificate is among the roots at first, whatever the file holds by now.
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
	pool := x509.NewCertPool()
	var certs []*x509.Certificate
	var out bytes.Buffer
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
		pool.AddCert(cert)
		certs = append(certs, cert)
		out.Write(pki.EncodeCert(cert.Raw))
	}
	if len(certs) == 0 {
		return errors.New("holds no PEM certificate")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pool, r.certs, r.text = pool, certs, out.Bytes()
	return nil
}

// get returns the roots of the moment; it must not be changed.
func (r *roots) get() *x509.CertPool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pool
}

func (r *roots) pem() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text
}

func (r *roots) list() []*x509.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.certs
}

// run follows the file until ctx ends, and calls changed after each change.
func (r *roots) run(ctx context.Context, changed func(ctx context.Context)) error {
	if r.path == "" {
		return nil
	}
	file, text, err := reload.Open(reload.Config{
		Path: r.path, Name: "client_ca", Log: r.log,
		Apply: func(ctx context.Context, text []byte) error {
			if err := r.set(text); err != nil {
				return fmt.Errorf("%w: %w", reload.ErrPasses, err)
			}
			changed(ctx)
			return nil
		},
	})
	if err == nil && !bytes.Equal(text, r.pem()) && r.set(text) == nil { // changed since the start
		changed(ctx)
	}
	if err == nil {
		err = file.Run(ctx)
	}
	if err != nil { // a machine out of inotify watches is no reason to serve nobody
		r.log.Warn("file of the certificate authority is not watched", "err", err)
	}
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
		for _, cert := range slices.Concat(t.clients.list(), t.frontProxy.list()) {
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
