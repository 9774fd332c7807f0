// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/etcd"
	"kogge.dev/kogge/store/storetest"
)

// certificate makes a self-signed certificate for loopback that is its own authority.
func certificate(t *testing.T) etcd.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile := write("cert.pem", "CERTIFICATE", cert)
	return etcd.TLS{CertFile: certFile, KeyFile: write("key.pem", "EC PRIVATE KEY", private), CAFile: certFile}
}

// freeURL returns a URL on loopback that nobody listens on.
func freeURL(t *testing.T) string {
	t.Helper()
	return "https://127.0.0.1:" + strconv.Itoa(need.Port(t))
}

func dial(t *testing.T, cfg etcd.DialConfig) *etcd.Remote {
	t.Helper()
	s, err := etcd.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformanceOverTLS(t *testing.T) {
	t.Parallel()
	tls := certificate(t)
	storetest.Suite{Open: func(t *testing.T) store.Store {
		u := freeURL(t)
		open(t, etcd.Config{DataDir: t.TempDir(), UnsafeNoFsync: true, Tick: 100 * time.Millisecond, ClientURLs: []string{u}, ClientTLS: tls})
		return dial(t, etcd.DialConfig{Endpoints: []string{u}, TLS: tls})
	}}.Run(t)
}

func TestStrangersAreRefused(t *testing.T) {
	tls := certificate(t)
	u := freeURL(t)
	open(t, etcd.Config{DataDir: t.TempDir(), UnsafeNoFsync: true, ClientURLs: []string{u}, ClientTLS: tls})
	stranger := certificate(t)
	stranger.CAFile = tls.CAFile
	s := dial(t, etcd.DialConfig{Endpoints: []string{u}, TLS: stranger})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if rev, err := s.Revision(ctx); err == nil {
		t.Errorf("a client with a strange certificate reads revision %d", rev)
	}
}

func TestConfigIsChecked(t *testing.T) {
	tls := certificate(t)
	for name, cfg := range map[string]etcd.Config{
		"without a data folder":      {},
		"only https":                 {DataDir: t.TempDir(), ClientURLs: []string{"http://127.0.0.1:1"}, ClientTLS: tls},
		"only https with":            {DataDir: t.TempDir(), ClientURLs: []string{"https://127.0.0.1:1"}},
		"needs certificate":          {DataDir: t.TempDir(), ClientTLS: etcd.TLS{CertFile: "x"}},
		"without a peer URL":         {DataDir: t.TempDir(), Join: true},
		"shorter than a millisecond": {DataDir: t.TempDir(), Tick: 1},
		"is longer than 4s":          {DataDir: t.TempDir(), Tick: time.Hour},
		"is a file":                  {DataDir: tls.CertFile},
	} {
		s, err := etcd.Open(t.Context(), cfg)
		if err == nil {
			_ = s.Close()
			t.Errorf("Open(%+v) succeeded, want an error with %q", cfg, name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("Open = %v, want an error with %q", err, name)
		}
	}
	if _, err := etcd.Dial(etcd.DialConfig{}); err == nil {
		t.Error("Dial without endpoints succeeded")
	}
	if _, err := etcd.Dial(etcd.DialConfig{Endpoints: []string{"https://127.0.0.1:1"}, TLS: etcd.TLS{CertFile: "x"}}); err == nil {
		t.Error("Dial with half a TLS configuration succeeded")
	}
}
