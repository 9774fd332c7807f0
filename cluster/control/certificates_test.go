// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/store/memory"
)

// TestCertificateIsRenewed lets a year pass.
func TestCertificateIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority, err := pki.NewAuthority("test")
		if err != nil {
			t.Fatal(err)
		}
		c, err := newCertificate(authority, pki.Leaf{Name: "leaf", User: "u"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go func() { _ = c.run(ctx) }() // It ends with ctx.
		first := c.get().Leaf
		const month = 30 * 24 * time.Hour
		time.Sleep(7 * month)
		if got := c.get().Leaf; got != first {
			t.Errorf("renewed after 7 months, with %s to go", time.Until(first.NotAfter))
		}
		time.Sleep(3 * month)
		if got := c.get().Leaf; got == first || time.Until(got.NotAfter) < 9*month {
			t.Errorf("after 10 months the certificate ends at %s, now it is %s", got.NotAfter, time.Now())
		}
	})
}

// serve runs an API server until the returned func is called, which fails the test when the server ended badly.
func serve(t *testing.T) (keys Keys, listener net.Listener, stop func()) {
	t.Helper()
	keys, err := OpenKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plane, err := New(Config{
		Store: memory.New(), Keys: keys, Log: slog.New(slog.DiscardHandler), Listener: listener, Advertise: netip.MustParseAddr("192.0.2.1"), Port: 6443,
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		Domain: "cluster.local", Identity: "test", Without: Components{Controllers: true, Scheduler: true, Cloud: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- plane.Run(ctx) }()
	<-plane.Booted()
	return keys, listener, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestReplacedCertificateIsServed replaces the files below a running server: first the certificate, then its key.
func TestReplacedCertificateIsServed(t *testing.T) {
	keys, listener, stop := serve(t)
	defer stop()
	served := func() string {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: keys.CA.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // only looked at
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := served()
	fresh, err := keys.CA.Issue(servingLeaf("cluster.local", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil))
	if err != nil {
		t.Fatal(err)
	}
	key, err := fresh.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	certPath, keyPath, _ := keys.CA.Files("apiserver")
	if err := os.WriteFile(certPath, fresh.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if served() != before {
		t.Error("a certificate without its key is served")
	}
	if err := os.WriteFile(keyPath, key, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); served() != fresh.Cert.SerialNumber.String(); {
		if time.Now().After(end) {
			t.Fatal("the new certificate is not served")
		}
		select {
		case <-t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
