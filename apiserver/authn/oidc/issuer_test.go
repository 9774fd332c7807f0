// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/apiserver/authn/oidc/oidctest"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/expr"
)

const plain = `
  claimMappings:
    username: {claim: sub, prefix: "oidc:"}
    groups: {claim: groups, prefix: "oidc:"}
`

// start runs an authenticator on a file until the test ends.
func start(t testing.TB, path string) *Authenticator {
	t.Helper()
	a, err := New(Config{Path: path, Disallowed: []string{"https://kubernetes.default.svc"}, Compiler: expr.NewCompiler(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a
}

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authentication.yaml")
	replace(t, path, content)
	return path
}

// replace puts content in a file's place in one step, as configuration management does.
func replace(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// reached waits until all issuers of the present generation were reached.
func reached(t testing.TB, a *Authenticator) {
	t.Helper()
	for _, i := range a.current.Load().issuers {
		if err := i.ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryAlgorithm(t *testing.T) {
	p := oidctest.New(t)
	a := start(t, write(t, p.File(plain)))
	for _, alg := range algorithms {
		key := p.Rotate(t, string(alg), alg)
		if alg == algorithms[0] {
			reached(t, a)
		}
		user, ok, err := a.AuthenticateToken(t.Context(), p.Sign(t, key, nil), nil)
		if !ok || err != nil || user.User.Name != "oidc:alice" {
			t.Errorf("%s: %v, %v, %v", alg, user, ok, err)
		}
	}
	mac := jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "HS256", Algorithm: "HS256"}
	if _, ok, err := a.AuthenticateToken(t.Context(), p.Sign(t, mac, nil), nil); ok || err == nil {
		t.Errorf("HS256: %v, %v; want a refusal", ok, err)
	}
}

func TestRotation(t *testing.T) {
	p := oidctest.New(t)
	first := p.Rotate(t, "1", jose.ES256)
	a := start(t, write(t, p.File(plain)))
	reached(t, a)
	old := p.Sign(t, first, nil)
	if _, ok, err := a.AuthenticateToken(t.Context(), old, nil); !ok {
		t.Fatal(err)
	}
	before := p.Fetched()
	for range 10 {
		if _, ok, err := a.AuthenticateToken(t.Context(), old, nil); !ok {
			t.Fatal(err)
		}
	}
	if p.Fetched() != before {
		t.Errorf("keys were fetched %d times for tokens of a known key", p.Fetched()-before)
	}
	second := p.Rotate(t, "2", jose.ES256)
	if _, ok, err := a.AuthenticateToken(t.Context(), p.Sign(t, second, nil), nil); !ok {
		t.Errorf("token of the new key: %v", err)
	}
	if _, ok, err := a.AuthenticateToken(t.Context(), old, nil); ok || err == nil || !strings.Contains(err.Error(), p.URL) {
		t.Errorf("token of the withdrawn key: %v, %v; want an error that names the issuer", ok, err)
	}
	p.Break()
	if _, ok, err := a.AuthenticateToken(t.Context(), p.Sign(t, second, nil), nil); !ok {
		t.Errorf("known key of an issuer that is down: %v", err)
	}
	if _, _, err := a.AuthenticateToken(t.Context(), old, nil); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("unknown key of an issuer that is down: %v, want what it answered", err)
	}
}

func TestTokensOfNoUse(t *testing.T) {
	p, stranger := oidctest.New(t), oidctest.New(t)
	key := p.Rotate(t, "1", jose.ES256)
	forged := jose.JSONWebKey{Key: oidctest.NewKey(t, jose.ES256), KeyID: "1", Algorithm: "ES256"}
	a := start(t, write(t, p.File(plain)))
	reached(t, a)
	for name, c := range map[string]struct {
		token, want string
	}{
		"of another key":     {p.Sign(t, forged, nil), "no key of the issuer made the signature"},
		"expired":            {p.Sign(t, key, oidctest.Object{"exp": time.Now().Add(-time.Second).Unix()}), "is expired since"},
		"without an end":     {p.Sign(t, key, oidctest.Object{"exp": nil}), "has no exp claim"},
		"not yet":            {p.Sign(t, key, oidctest.Object{"nbf": time.Now().Add(2 * time.Minute).Unix()}), "is not valid before"},
		"for somebody else":  {p.Sign(t, key, oidctest.Object{"aud": []string{"x", "y"}}), `expected audience in ["kogge" "other"] got ["x" "y"]`},
		"without a name":     {p.Sign(t, key, oidctest.Object{"sub": nil}), `username: claim "sub": claim not present`},
		"of nested groups":   {p.Sign(t, key, oidctest.Object{"groups": []any{[]string{"a"}}}), `groups: claim "groups": `},
		"distributed groups": {p.Sign(t, key, oidctest.Object{"_claim_names": oidctest.Object{"groups": "src"}}), "is a distributed claim, which is not supported"},
	} {
		_, ok, err := a.AuthenticateToken(t.Context(), c.token, nil)
		if ok || err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), fmt.Sprintf("token of issuer %q: ", p.URL)) {
			t.Errorf("%s: %v, %v; want %q", name, ok, err, c.want)
		}
	}
	for _, token := range []string{"", "a.b.c", p.Sign(t, key, oidctest.Object{"iss": "https://kubernetes.default.svc"}), stranger.Sign(t, key, nil)} {
		if _, ok, err := a.AuthenticateToken(t.Context(), token, nil); ok || err != nil {
			t.Errorf("%.40s: %v, %v; want not ours", token, ok, err)
		}
	}
}

func TestDiscoveryElsewhere(t *testing.T) {
	p := oidctest.New(t)
	p.Rename("https://issuer.example")
	key := p.Rotate(t, "1", jose.RS256)
	text := strings.Replace(p.File(plain), "url: "+p.URL, "url: https://issuer.example\n    discoveryURL: "+p.URL+"/elsewhere", 1)
	a := start(t, write(t, text))
	reached(t, a)
	token := p.Sign(t, key, oidctest.Object{"iss": "https://issuer.example", "aud": []string{"z", "other"}, "groups": "one", "jti": "7"})
	user, ok, err := a.AuthenticateToken(t.Context(), token, nil)
	if !ok {
		t.Fatal(err)
	}
	want := request.User{Name: "oidc:alice", Groups: []string{"oidc:one"}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=7"}}}
	if diff := cmp.Diff(want, user.User); diff != "" {
		t.Error(diff)
	}
}

func TestWrongNameInDiscovery(t *testing.T) {
	p := oidctest.New(t)
	p.Rename("https://somebody.else")
	key := p.Rotate(t, "1", jose.ES256)
	a := start(t, write(t, p.File(plain)))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, i := range a.current.Load().issuers {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			err := i.ready(gone)
			if err != nil && strings.Contains(err.Error(), `is of issuer "https://somebody.else"`) {
				break
			}
			if err == nil || time.Now().After(deadline) {
				t.Fatalf("ready = %v", err)
			}
		}
	}
	if _, ok, err := a.AuthenticateToken(t.Context(), p.Sign(t, key, nil), nil); ok || err == nil || !strings.Contains(err.Error(), "is not reached") {
		t.Errorf("token of an issuer with another name: %v, %v", ok, err)
	}
}

func TestReload(t *testing.T) {
	p, q := oidctest.New(t), oidctest.New(t)
	pKey, qKey := p.Rotate(t, "p", jose.ES256), q.Rotate(t, "q", jose.ES256)
	path := write(t, p.File(plain))
	a := start(t, path)
	reached(t, a)
	// status waits until the file's reloads have been counted.
	status := func(want string) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			counts := reloads(t, a)
			if counts == want {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("reloads: %s, want %s", counts, want)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	pToken, qToken := p.Sign(t, pKey, nil), q.Sign(t, qKey, nil)
	replace(t, path, "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{isuer: {}}]\n")
	status("failure 1")
	if _, ok, err := a.AuthenticateToken(t.Context(), pToken, nil); !ok {
		t.Errorf("after a file that is wrong: %v", err)
	}
	replace(t, path, p.File(plain)+"anonymous: {enabled: false}\n")
	status("failure 2")
	both := strings.Replace(p.File(plain), "jwt:\n", strings.SplitAfter(q.File(plain), "kind: AuthenticationConfiguration\n")[1], 1)
	replace(t, path, both)
	status("failure 2 success 1")
	for _, token := range []string{pToken, qToken} {
		if _, ok, err := a.AuthenticateToken(t.Context(), token, nil); !ok {
			t.Errorf("after the second issuer came: %v", err)
		}
	}
	replace(t, path, q.File(plain))
	status("failure 2 success 2")
	if _, ok, _ := a.AuthenticateToken(t.Context(), pToken, nil); ok {
		t.Error("a token of an issuer that has left the file is believed")
	}
}

func reloads(t *testing.T, a *Authenticator) string {
	t.Helper()
	var out []string
	for _, s := range []string{"failure", "success"} {
		if n := counter(t, a, s); n > 0 {
			out = append(out, fmt.Sprintf("%s %v", s, n))
		}
	}
	return strings.Join(out, " ")
}
