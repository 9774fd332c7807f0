// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"kogge.dev/kogge/internal/pki"
)

// TestChangedCertificateAuthorityIsBelieved adds an authority to the file of the clients' below a running server, and takes it away again.
func TestChangedCertificateAuthorityIsBelieved(t *testing.T) {
	keys, listener, stop := serve(t)
	defer stop()
	other, err := pki.NewAuthority("other")
	if err != nil {
		t.Fatal(err)
	}
	// clientOf keeps one connection: what is believed of it changes, too.
	clientOf := func(authority *pki.Authority, leaf pki.Leaf) func(path string) (int, string) {
		pair, err := authority.Issue(leaf)
		if err != nil {
			t.Fatal(err)
		}
		cert := pair.TLS()
		transport := &http.Transport{TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: keys.CA.Pool(),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return func(path string) (int, string) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+listener.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := (&http.Client{Transport: transport}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return res.StatusCode, string(text)
		}
	}
	await := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !holds(); {
			if time.Now().After(end) {
				t.Fatal(what)
			}
			select {
			case <-t.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	stranger := clientOf(other, pki.Leaf{User: "stranger"})
	admin := clientOf(keys.CA, pki.Leaf{User: "admin", Groups: []string{"system:masters"}})
	const nodes, published = "/api/v1/nodes", "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
	if code, text := stranger(nodes); code != http.StatusUnauthorized {
		t.Fatalf("a certificate of somebody else: %d %s", code, text)
	}
	path, _, _ := keys.CA.Files("ca")
	own, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	both := fmt.Appendf(nil, "%s%s", own, other.CertPEM())
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	await("the added authority is not believed", func() bool {
		code, text := stranger(nodes)
		return code == http.StatusForbidden && strings.Contains(text, `User \"stranger\"`)
	})
	if code, text := admin(nodes); code != http.StatusOK {
		t.Errorf("a client of the first authority: %d %s", code, text)
	}
	await("the added authority is not published", func() bool {
		code, text := admin(published)
		return code == http.StatusOK && strings.Count(text, "BEGIN CERTIFICATE") == 3 // with the front proxy's
	})
	// Who connects now is told that certificates of the added authority are wanted.
	var wanted int
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: keys.CA.Pool(), GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		wanted = len(info.AcceptableCAs)
		return &tls.Certificate{}, nil
	}}
	conn, err := tls.Dial("tcp", listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if wanted != 3 {
		t.Errorf("the server names %d authorities, want the clients' two and the front proxy's", wanted)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _ := stranger(nodes); code != http.StatusForbidden {
		t.Errorf("after a file that can't be read: %d, want what was believed before", code)
	}
	if err := os.WriteFile(path, own, 0o600); err != nil {
		t.Fatal(err)
	}
	await("an authority that is gone is believed", func() bool {
		code, _ := stranger(nodes)
		return code == http.StatusUnauthorized
	})
}
