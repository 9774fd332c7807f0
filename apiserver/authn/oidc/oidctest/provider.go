// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package oidctest is an issuer of tokens for tests: a server with discovery and keys over TLS.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Provider is an issuer as its tokens' readers see it: discovery and keys over TLS.
type Provider struct {
	*httptest.Server

	mu sync.Mutex
	// name is what the discovery document says.
	name string
	keys []jose.JSONWebKey
	// fetched counts answers with keys. down answers 503.
	fetched int
	down    bool
}

// T is the part of testing.TB that a provider needs.
type T interface {
	Helper()
	Fatal(args ...any)
	Cleanup(fn func())
}

// New starts a provider on loopback that ends with the test.
func New(t T) *Provider {
	t.Helper()
	return NewOn(t, nil)
}

// NewOn is New on a listener; nil means one on loopback.
func NewOn(t T, listener net.Listener) *Provider {
	t.Helper()
	p := &Provider{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		switch r.URL.Path {
		case "/.well-known/openid-configuration", "/elsewhere":
			name := p.name
			if name == "" {
				name = p.URL
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": p.URL + "/keys"})
		case "/keys":
			p.fetched++
			keys := []any{map[string]string{"kty": "unheard of"}}
			for _, k := range p.keys {
				keys = append(keys, k.Public())
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
		default:
			http.NotFound(w, r)
		}
	}))
	if listener != nil {
		_ = p.Listener.Close() // the one that it would use
		p.Listener = listener
	}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *Provider) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

// Rotate replaces the provider's keys by one.
func (p *Provider) Rotate(t T, id string, alg jose.SignatureAlgorithm) jose.JSONWebKey {
	t.Helper()
	key := jose.JSONWebKey{Key: NewKey(t, alg), KeyID: id, Algorithm: string(alg), Use: "sig"}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = []jose.JSONWebKey{key}
	return key
}

// NewKey makes a key for an algorithm.
func NewKey(t T, alg jose.SignatureAlgorithm) crypto.Signer {
	t.Helper()
	curves := map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}
	if curve := curves[alg]; curve != nil {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Key is a key of a provider.
type Key = jose.JSONWebKey

// Object is JSON.
type Object = map[string]any

// Sign makes a token with claims, completed with those that every token needs.
func (p *Provider) Sign(t T, key jose.JSONWebKey, more Object) string {
	t.Helper()
	claims := Object{"iss": p.URL, "aud": "kogge", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range more {
		claims[k] = v
		if v == nil {
			delete(claims, k)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// File is an AuthenticationConfiguration with one issuer; rest is what follows its issuer section.
func (p *Provider) File(rest string) string {
	return fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: %s
    audiences: [kogge, other]
    audienceMatchPolicy: MatchAny
    certificateAuthority: %q
%s`, p.URL, p.ca(), rest)
}

// Rename makes the discovery document speak of another issuer than the server's URL.
func (p *Provider) Rename(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name = name
}

// Break lets the provider answer 503 from now on.
func (p *Provider) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
}

// Fetched counts how often keys were asked for.
func (p *Provider) Fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched
}
