// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"kogge.dev/kogge/internal/pki"
)

// TestCertificateIsLeftAlone holds that nothing is written into a certificate, which the requests of a connection share.
func TestCertificateIsLeftAlone(t *testing.T) {
	authority, err := pki.NewAuthority("clients")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(pki.Leaf{User: "jane", Groups: []string{"sailors"}})
	if err != nil {
		t.Fatal(err)
	}
	roomy := append(make([]string, 0, 2), pair.Cert.Subject.Organization...)
	pair.Cert.Subject.Organization = roomy
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{pair.Cert}}
	user, err := New(Config{ClientCA: authority.Pool}).Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"sailors", "system:authenticated"}; !slices.Equal(user.Groups, want) {
		t.Errorf("groups %v, want %v", user.Groups, want)
	}
	if behind := roomy[:2][1]; behind != "" {
		t.Errorf("%q was written behind the groups of the certificate", behind)
	}
}

// TestTrim holds how full a cache may be: expired answers go first.
func TestTrim(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name                 string
		valid, expired, want int
	}{
		{"there is room", 1, maxKnown - 2, maxKnown - 1},
		{"some are expired", 1, maxKnown - 1, 1},
		{"none is expired", maxKnown, 0, 0},
	} {
		known := map[knownQuestion]answer{}
		for i := range c.valid + c.expired {
			a := answer{until: now.Add(time.Second)}
			if i < c.expired {
				a.until = now
			}
			known[knownQuestion{user: strconv.Itoa(i)}] = a
		}
		trimLocked(known, now)
		if len(known) != c.want {
			t.Errorf("%s: %d answers are left, want %d", c.name, len(known), c.want)
		}
	}
}
