// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
)

func TestTokensSurvive(t *testing.T) {
	want := token{APIVersion: tokenVersion, Revision: 7, Start: "default/a\x00"}
	got, err := decodeToken(want.encode())
	if err != nil || got != want {
		t.Errorf("decodeToken() = %+v, %v; want %+v", got, err, want)
	}
}

func TestTokensThatClimbAreRefused(t *testing.T) {
	for _, start := range []string{"../secrets/a", "a/../../b", "", "/"} {
		text := token{APIVersion: tokenVersion, Revision: 7, Start: start}.encode()
		if got, err := decodeToken(text); err == nil {
			t.Errorf("decodeToken(start %q) = %+v", start, got)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(token{APIVersion: tokenVersion, Revision: 7, Start: "default/a"}.encode())
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"v":"meta.k8s.io/v1","rv":-1,"start":"x"}`)))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := decodeToken(text)
		if err == nil && (strings.HasPrefix(got.Start, "../") || strings.Contains(got.Start, "/../") || got.Start == "" || got.Revision == 0) {
			t.Errorf("decodeToken(%q) = %+v", text, got)
		}
	})
}

func TestAddressesOfRanges(t *testing.T) {
	tests := []struct {
		cidr         string
		size, static uint64
		first, last  string
	}{
		{"10.96.0.0/24", 254, 16, "10.96.0.1", "10.96.0.255"},
		{"10.96.0.0/16", 65534, 256, "10.96.0.1", "10.96.255.255"},
		{"10.96.0.0/29", 6, 0, "10.96.0.1", "10.96.0.7"},
		{"fd00::/120", 255, 16, "fd00::1", "fd00::ff"},
		{"fd00::/64", 1 << 62, 256, "fd00::1", "fd00::ffff:ffff:ffff:ffff"},
	}
	for _, tt := range tests {
		r := netip.MustParsePrefix(tt.cidr)
		if got := rangeSize(r); got != tt.size {
			t.Errorf("rangeSize(%s) = %d, want %d", tt.cidr, got, tt.size)
		}
		if got := staticPart(tt.size); got != tt.static {
			t.Errorf("staticPart(%d) = %d, want %d", tt.size, got, tt.static)
		}
		if got := nth(r, 1).String(); got != tt.first {
			t.Errorf("nth(%s, 1) = %s, want %s", tt.cidr, got, tt.first)
		}
		if got := lastAddr(r).String(); got != tt.last {
			t.Errorf("lastAddr(%s) = %s, want %s", tt.cidr, got, tt.last)
		}
	}
}

func TestGeneratedNamesFit(t *testing.T) {
	name := generateName(strings.Repeat("p", 80))
	if len(name) != 63 || !strings.HasPrefix(name, strings.Repeat("p", 58)) {
		t.Errorf("generateName() = %q", name)
	}
}
