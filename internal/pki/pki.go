// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package pki keeps the keys and certificates of a cluster in one folder: the cluster's certificate authority, the
// front proxy's, the service account key, and leaf certificates that are renewed before they run out.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Lifetimes.
const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	backdate     = 5 * time.Minute // clocks of joining nodes may lag a little
)

// Pair is a certificate with its private key. Cert is never nil; Key is nil where only the certificate is known.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Authority issues leaf certificates.
type Authority struct {
	Pair
	dir string
}

// Leaf describes a certificate to issue.
type Leaf struct {
	// Name of its files: <Name>.crt and <Name>.key.
	Name string
	// User and Groups become common name and organisations.
	User   string
	Groups []string
	// DNS names and addresses of a serving certificate; both empty for a client's.
	DNS []string
	IPs []net.IP
}

// OpenAuthority loads the authority <name>.crt and <name>.key of a folder, or makes it. The folder and keys are the owner's only.
func OpenAuthority(dir, name, commonName string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of keys: %w", err)
	}
	pair, err := load(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		pair, err = makeAuthority(commonName)
		if err == nil {
			err = save(dir, name, pair)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s: %w", name, err)
	}
	return &Authority{Pair: pair, dir: dir}, nil
}

// NewAuthority makes an authority that exists only in memory, for tests; its leaves are issued, never stored.
func NewAuthority(commonName string) (*Authority, error) {
	pair, err := makeAuthority(commonName)
	return &Authority{Pair: pair}, err
}

func makeAuthority(commonName string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: commonName},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{commonName},
	}
	return sign(template, template, key.Public(), key, key)
}

// Ensure returns the leaf from its files, or issues it when it is missing, about to run out, or described differently.
func (a *Authority) Ensure(leaf Leaf) (Pair, error) {
	if a.dir == "" {
		return a.Issue(leaf)
	}
	known, err := load(a.dir, leaf.Name)
	if err == nil && a.current(known.Cert, leaf) {
		return known, nil
	}
	pair, err := a.Issue(leaf)
	if err != nil {
		return Pair{}, err
	}
	if err := save(a.dir, leaf.Name, pair); err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", leaf.Name, err)
	}
	return pair, nil
}

// Files returns where a leaf is kept; ok is false for an authority that exists only in memory.
func (a *Authority) Files(name string) (cert, key string, ok bool) {
	return filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key"), a.dir != ""
}

// RenewAfter is when less than a third of a certificate's life is left: from then on Ensure renews it.
func RenewAfter(cert *x509.Certificate) time.Time {
	return cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)
}

// current reports whether a certificate still serves as leaf.
func (a *Authority) current(cert *x509.Certificate, leaf Leaf) bool {
	if !time.Now().Before(RenewAfter(cert)) || cert.CheckSignatureFrom(a.Cert) != nil {
		return false
	}
	if cert.Subject.CommonName != leaf.User || !slices.Equal(cert.Subject.Organization, leaf.Groups) || !slices.Equal(cert.DNSNames, leaf.DNS) {
		return false
	}
	return slices.EqualFunc(cert.IPAddresses, leaf.IPs, net.IP.Equal)
}

// Issue makes a new leaf without storing it.
func (a *Authority) Issue(leaf Leaf) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: leaf.User, Organization: leaf.Groups},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(leafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:    leaf.DNS, IPAddresses: leaf.IPs,
	}
	if len(leaf.DNS) > 0 || len(leaf.IPs) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	pair, err := sign(template, a.Cert, key.Public(), a.Key, key)
	if err != nil {
		return Pair{}, fmt.Errorf("issue certificate %s: %w", leaf.Name, err)
	}
	return pair, nil
}

// Pool returns the authority as the only root.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Cert)
	return pool
}

// SigningKey loads the key of <name>.key, or makes it: the service account key.
func SigningKey(dir, name string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, name+".key")
	known, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		key, ok := known.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s: is a %T, not an elliptic curve's key", path, known)
		}
		return key, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	data, err := EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, data, 0o600)
}

// TLS returns the pair in the form that crypto/tls wants.
func (p Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key, Leaf: p.Cert}
}

// CertPEM returns the certificate in PEM.
func (p Pair) CertPEM() []byte { return EncodeCert(p.Cert.Raw) }

// KeyPEM returns the private key in PEM.
func (p Pair) KeyPEM() ([]byte, error) { return EncodeKey(p.Key) }

// EncodeCert returns a DER certificate in PEM.
func EncodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// EncodeKey returns a private key in PEM: SEC 1 for elliptic curves, PKCS #8 for others.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	curve, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	der, err := x509.MarshalECPrivateKey(curve)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// PublicKeyHash returns the pin of a certificate's public key, "sha256:<hex>", as kubeadm writes it.
func PublicKeyHash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer, key crypto.Signer) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return Pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: cert, Key: key}, nil
}

func serial() *big.Int {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw[:])
}
