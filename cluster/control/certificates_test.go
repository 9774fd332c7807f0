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
	"strings"
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

// serve runs an API server, with other limits of TLS if some are given, until the returned func is called, which fails the test when the server
// ended badly.
func serve(t *testing.T, limits ...TLSLimits) (keys Keys, listener net.Listener, stop func()) {
	t.Helper()
	keys, err := OpenKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		Store: memory.New(), Keys: keys, Log: slog.New(slog.DiscardHandler), Listener: listener, Advertise: netip.MustParseAddr("192.0.2.1"), Port: 6443,
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		Domain: "cluster.local", Identity: "test", Without: Components{Controllers: true, Scheduler: true, Cloud: true},
	}
	for _, l := range limits {
		config.TLS = l
	}
	plane, err := New(config)
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

// TestTLSLimits has clients of each version, and of one cipher suite, meet a server.
func TestTLSLimits(t *testing.T) {
	const suite, other = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	client := func(from, to uint16, suites ...uint16) *tls.Config {
		return &tls.Config{MinVersion: from, MaxVersion: to, CipherSuites: suites} //nolint:gosec // As old as a client may be.
	}
	for _, tt := range []struct {
		name    string
		limits  TLSLimits
		client  *tls.Config
		refused string
		suite   uint16
	}{
		{"1.1", TLSLimits{}, client(tls.VersionTLS10, tls.VersionTLS11), "protocol version", 0},
		{"1.2", TLSLimits{}, client(tls.VersionTLS12, tls.VersionTLS12, other), "", other},
		{"1.3", TLSLimits{}, client(tls.VersionTLS13, tls.VersionTLS13), "", 0},
		{"1.2 where 1.3 is wanted", TLSLimits{MinVersion: tls.VersionTLS13}, client(tls.VersionTLS12, tls.VersionTLS12), "protocol version", 0},
		{"1.3 where it is wanted", TLSLimits{MinVersion: tls.VersionTLS13}, client(tls.VersionTLS12, tls.VersionTLS13), "", 0},
		{"a suite", TLSLimits{CipherSuites: []uint16{suite}}, client(tls.VersionTLS12, tls.VersionTLS12, other, suite), "", suite},
		{"another suite", TLSLimits{CipherSuites: []uint16{suite}}, client(tls.VersionTLS12, tls.VersionTLS12, other), "handshake failure", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, listener, stop := serve(t, tt.limits)
			defer stop()
			tt.client.RootCAs = keys.CA.Pool()
			conn, err := tls.Dial("tcp", listener.Addr().String(), tt.client)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("the handshake ended with %v, want %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // only looked at
			if got := conn.ConnectionState().CipherSuite; tt.suite != 0 && got != tt.suite {
				t.Errorf("cipher suite %s, want %s", tls.CipherSuiteName(got), tls.CipherSuiteName(tt.suite))
			}
		})
	}
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
