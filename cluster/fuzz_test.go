// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import "testing"

// FuzzClusterInfo reads what a joining node gets before it trusts anybody: no cluster info is believed that the token's secret
// did not sign, and reading an arbitrary one ends with an error or a certificate.
func FuzzClusterInfo(f *testing.F) {
	f.Add("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..AAAA", "clusters: [{cluster: {server: https://10.0.0.1:6443, certificate-authority-data: AAAA}}]")
	f.Add("..", "")
	f.Add("e30..", "clusters: [{}]")
	f.Fuzz(func(t *testing.T, signature, content string) {
		if verify(signature, content, "abcdef", "0123456789abcdef-never-seen") == nil {
			t.Errorf("signature %q of %q is believed", signature, content)
		}
		if _, ca, err := parseClusterInfo([]byte(content)); err == nil && ca == nil {
			t.Errorf("%q yields neither a certificate nor an error", content)
		}
	})
}

// FuzzSettings reads arbitrary configuration files.
func FuzzSettings(f *testing.F) {
	f.Add([]byte("apiVersion: kogge.dev/v1\nkind: Config\nnode: {name: one}\n"))
	f.Add([]byte("null"))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseSettings(text); err == nil && s.Validate() != nil {
			t.Errorf("%q is accepted but not valid", text)
		}
	})
}
