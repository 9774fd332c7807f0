// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package access is how a client reaches an API server: by a kubeconfig for other programs, or in process.
package access

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
)

// Access is a server with the files of one identity.
type Access struct {
	// Server is a URL.
	Server string
	// CA, Cert and Key are PEM files. Without Cert the client is anonymous, unless its requests bring a token.
	CA, Cert, Key string
}

// WriteKubeconfig writes a kubeconfig that names the files.
func (a Access) WriteKubeconfig(path string) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, a.Server, a.CA, a.Cert, a.Key)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// Client returns an HTTP client with the identity. It speaks HTTP/2 over one connection.
func (a Access) Client() (*http.Client, error) {
	pem, err := os.ReadFile(a.CA)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", a.Server, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client of %s: no certificate in %s", a.Server, a.CA)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	if a.Cert != "" {
		cert, err := tls.LoadX509KeyPair(a.Cert, a.Key)
		if err != nil {
			return nil, fmt.Errorf("client of %s: %w", a.Server, err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: config}}, nil
}
