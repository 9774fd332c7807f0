// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// peersSize bounds what is remembered of clients; at the bound all of it is dropped.
const peersSize = 4096

// peers checks the certificates that clients show, and remembers which are good: the signatures of a chain cost more than the rest of many a
// request, and a client sends many. A bad one is checked each time. The zero value is ready.
type peers struct {
	mu sync.Mutex
	// roots for which good holds.
	roots *x509.CertPool
	// good says until when a chain, by the digest of its certificates, needs no other look: until the first of them ends.
	good map[[sha256.Size]byte]time.Time
}

// verify checks the client's chain against roots. It returns nil without an error when there is no certificate.
func (p *peers) verify(r *http.Request, roots *x509.CertPool) (*x509.Certificate, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || roots == nil {
		return nil, nil // "no certificate" is neither a user nor an error
	}
	shown := r.TLS.PeerCertificates
	leaf, key := shown[0], digest(shown)
	if p.known(key, roots) {
		return leaf, nil
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, cert := range shown[1:] {
		opts.Intermediates.AddCert(cert)
	}
	chains, err := leaf.Verify(opts)
	if err != nil {
		return nil, fmt.Errorf("verify client certificate %q, serial %s: %w", leaf.Subject.CommonName, leaf.SerialNumber, err)
	}
	p.remember(key, roots, chains[0])
	return leaf, nil
}

func (p *peers) known(key [sha256.Size]byte, roots *x509.CertPool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roots == roots && time.Now().Before(p.good[key])
}

func (p *peers) remember(key [sha256.Size]byte, roots *x509.CertPool, chain []*x509.Certificate) {
	until := chain[0].NotAfter
	for _, cert := range chain[1:] {
		if cert.NotAfter.Before(until) {
			until = cert.NotAfter
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.roots != roots || len(p.good) >= peersSize {
		p.roots, p.good = roots, map[[sha256.Size]byte]time.Time{}
	}
	p.good[key] = until
}

// digest of certificates; their lengths are in their encodings.
func digest(certs []*x509.Certificate) (out [sha256.Size]byte) {
	if len(certs) == 1 {
		return sha256.Sum256(certs[0].Raw)
	}
	h := sha256.New()
	for _, cert := range certs {
		h.Write(cert.Raw)
	}
	h.Sum(out[:0])
	return out
}
