// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/internal/reload"
)

// certificate is a leaf of the control plane. It is renewed while the process runs, and taken anew when somebody replaces its files: connections
// that begin then have the new one.
type certificate struct {
	authority *pki.Authority
	leaf      pki.Leaf
	log       *slog.Logger
	now       atomic.Pointer[tls.Certificate]
}

func newCertificate(authority *pki.Authority, leaf pki.Leaf, log *slog.Logger) (*certificate, error) {
	c := &certificate{authority: authority, leaf: leaf, log: log.With("certificate", leaf.Name)}
	return c, c.ensure()
}

// ensure takes the leaf from its files, or issues it anew when its life nears its end.
func (c *certificate) ensure() error {
	pair, err := c.authority.Ensure(c.leaf)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", c.leaf.Name, err)
	}
	now := pair.TLS()
	c.now.Store(&now)
	return nil
}

func (c *certificate) get() *tls.Certificate { return c.now.Load() }

// run keeps the certificate fresh until ctx ends.
func (c *certificate) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.renew(ctx) })
	if _, _, kept := c.authority.Files(c.leaf.Name); kept {
		g.Go(func() error { c.reload(ctx); return nil })
	}
	return g.Wait()
}

// renew issues the certificate anew when its time has come.
func (c *certificate) renew(ctx context.Context) error {
	const pause = time.Minute // when it fails
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(time.Until(pki.RenewAfter(c.get().Leaf)), pause)):
		}
		if err := c.ensure(); err != nil {
			c.log.Error("certificate is not renewed", "err", err)
			continue
		}
		c.log.Info("certificate is fresh", "until", c.get().Leaf.NotAfter)
	}
}

// reload takes the certificate from its files when they change. The key must be there by then, or soon after.
func (c *certificate) reload(ctx context.Context) {
	const again = 2 * time.Second
	certPath, keyPath, _ := c.authority.Files(c.leaf.Name)
	follow(ctx, reload.Config{
		Path: certPath, Name: "certificate", Log: c.log, Again: again,
		Apply: func(_ context.Context, _ []byte) error {
			fresh, err := tls.LoadX509KeyPair(certPath, keyPath)
			if err != nil {
				return fmt.Errorf("%w: %w", reload.ErrPasses, err)
			}
			if time.Now().After(fresh.Leaf.NotAfter) {
				return fmt.Errorf("it ended at %s", fresh.Leaf.NotAfter)
			}
			c.now.Store(&fresh)
			return nil
		},
	}, func([]byte) {})
}

// follow has a file's changes applied until ctx ends. Opened gets what it holds at first. That it can't be watched is logged: a machine out of
// inotify watches is no reason to serve nobody.
func follow(ctx context.Context, config reload.Config, opened func(text []byte)) {
	file, text, err := reload.Open(config)
	if err == nil {
		opened(text)
		err = file.Run(ctx)
	}
	if err != nil {
		config.Log.Warn("file is not watched", "path", config.Path, "err", err)
	}
}

// certificates of a control plane: what it serves with, and what it shows to kubelets and to extension API servers.
type certificates struct{ serving, kubelets, frontProxy *certificate }

func (p *Plane) issue() error {
	addresses := append([]netip.Addr{
		p.config.Advertise, p.config.ServiceCIDRs[0].Masked().Addr().Next(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"),
	}, p.config.Addresses...)
	var err error
	if p.trust, err = newTrust(p.config.Keys, p.config.Log); err != nil {
		return err
	}
	if p.certificates.serving, err = newCertificate(p.config.Keys.CA, servingLeaf(p.config.Domain, addresses, p.config.Names), p.config.Log); err != nil {
		return err
	}
	if p.certificates.kubelets, err = newCertificate(p.config.Keys.CA, pki.Leaf{Name: "apiserver-kubelet-client", User: kubeletClientUser}, p.config.Log); err != nil {
		return err
	}
	p.certificates.frontProxy, err = newCertificate(p.config.Keys.ProxyCA, pki.Leaf{Name: "front-proxy-client", User: frontProxyName}, p.config.Log)
	return err
}

func (c *certificates) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range []*certificate{c.serving, c.kubelets, c.frontProxy} {
		g.Go(func() error { return one.run(ctx) })
	}
	return g.Wait()
}
