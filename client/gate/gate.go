// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package gate decides who may come in at the ports of components that are API clients: users are known by client certificate or by a
// token that the API server reviews, and the API server says what they may do. Its answers are kept for a while.
package gate

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"kogge.dev/kogge/client"
)

// ErrUnauthorized is returned by Authenticate for credentials that nobody knows.
var ErrUnauthorized = errors.New("Unauthorized")

// Config of a Gate.
type Config struct {
	// Client asks the API server. Without it no token is known and nothing is allowed.
	Client *client.Client
	// ClientCA returns what verifies client certificates now; nil, or a nil pool, means that none are accepted.
	ClientCA func() *x509.CertPool
	// TokenTTL, AllowTTL and DenyTTL say for how long answers are believed.
	TokenTTL, AllowTTL, DenyTTL time.Duration
}

// User is who makes a request.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string]authorizationv1.ExtraValue
}

// Question is what a user wants to do, to a resource of the core group or to a path.
type Question struct {
	Verb string
	// Resource, Subresource and Name of an object; empty when Path is asked for.
	Resource, Subresource, Name string
	// Path that is no resource: "/metrics".
	Path string
}

// Gate keeps answers of the API server. It is safe for concurrent use.
type Gate struct {
	config Config

	mu     sync.Mutex
	tokens map[[sha256.Size]byte]knownToken
	rules  map[knownQuestion]answer
}

type knownToken struct {
	user  *User // nil: not a valid token
	until time.Time
}

func (t knownToken) expired(now time.Time) bool { return !now.Before(t.until) }

// knownQuestion is a question with who asked it, groups and extra as texts: slices and maps can't be keys.
type knownQuestion struct {
	user, uid, groups, extra string
	Question
}

type answer struct {
	allowed bool
	until   time.Time
}

func (a answer) expired(now time.Time) bool { return !now.Before(a.until) }

// New makes a gate that knows nobody yet.
func New(config Config) *Gate {
	return &Gate{config: config, tokens: map[[sha256.Size]byte]knownToken{}, rules: map[knownQuestion]answer{}}
}

// Authenticate returns who makes a request, by client certificate or bearer token; nil without an error when it carries neither.
func (g *Gate) Authenticate(r *http.Request) (*User, error) {
	certified, refused := g.certificate(r)
	if certified != nil {
		return certified, nil
	}
	kind, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if token = strings.TrimSpace(token); strings.EqualFold(kind, "Bearer") && token != "" {
		return g.review(r.Context(), token)
	}
	return nil, refused
}

// certificate knows a user by the client certificate. One that was not issued for this is refused.
func (g *Gate) certificate(r *http.Request) (*User, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || g.config.ClientCA == nil {
		return nil, nil
	}
	roots := g.config.ClientCA()
	if roots == nil {
		return nil, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range r.TLS.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil || leaf.Subject.CommonName == "" {
		return nil, ErrUnauthorized
	}
	// The certificate is shared by all requests of its connection: nothing is appended to its list.
	return &User{Name: leaf.Subject.CommonName, Groups: slices.Concat(leaf.Subject.Organization, []string{"system:authenticated"})}, nil
}

func (g *Gate) review(ctx context.Context, token string) (*User, error) {
	if g.config.Client == nil {
		return nil, ErrUnauthorized
	}
	key := sha256.Sum256([]byte(token))
	now := time.Now()
	g.mu.Lock()
	known, ok := g.tokens[key]
	g.mu.Unlock()
	if !ok || known.expired(now) {
		r := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
		result, err := client.Of[*authenticationv1.TokenReview](g.config.Client).Create(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("review token: %w", err)
		}
		known = knownToken{until: now.Add(g.config.TokenTTL)}
		if result.Status.Authenticated {
			info := result.Status.User
			known.user = &User{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: map[string]authorizationv1.ExtraValue{}}
			for k, v := range info.Extra {
				known.user.Extra[k] = authorizationv1.ExtraValue(v)
			}
		}
		g.mu.Lock()
		trimLocked(g.tokens, now)
		g.tokens[key] = known
		g.mu.Unlock()
	}
	if known.user == nil {
		return nil, ErrUnauthorized
	}
	return known.user, nil
}

// maxKnown bounds each cache; beyond it expired entries go, and if that is not enough all.
const maxKnown = 4096

// trimLocked makes room in a cache for one more entry.
func trimLocked[K comparable, V interface{ expired(now time.Time) bool }](known map[K]V, now time.Time) {
	if len(known) < maxKnown {
		return
	}
	maps.DeleteFunc(known, func(_ K, v V) bool { return v.expired(now) })
	if len(known) >= maxKnown {
		clear(known)
	}
}

// Allowed reports whether the API server lets a user do something.
func (g *Gate) Allowed(ctx context.Context, u *User, what Question) (bool, error) {
	if g.config.Client == nil {
		return false, nil
	}
	extra, err := json.Marshal(u.Extra) // in order of keys
	if err != nil {
		return false, fmt.Errorf("extra of user %q: %w", u.Name, err)
	}
	q := knownQuestion{user: u.Name, uid: u.UID, groups: strings.Join(u.Groups, "\x00"), extra: string(extra), Question: what}
	now := time.Now()
	g.mu.Lock()
	known, ok := g.rules[q]
	g.mu.Unlock()
	if ok && !known.expired(now) {
		return known.allowed, nil
	}
	spec := authorizationv1.SubjectAccessReviewSpec{User: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
	if what.Path != "" {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: what.Verb, Path: what.Path}
	} else {
		spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Verb: what.Verb, Version: "v1", Resource: what.Resource, Subresource: what.Subresource, Name: what.Name,
		}
	}
	result, err := client.Of[*authorizationv1.SubjectAccessReview](g.config.Client).Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec})
	if err != nil {
		return false, err
	}
	a := answer{allowed: result.Status.Allowed, until: now.Add(g.config.DenyTTL)}
	if a.allowed {
		a.until = now.Add(g.config.AllowTTL)
	}
	g.mu.Lock()
	trimLocked(g.rules, now)
	g.rules[q] = a
	g.mu.Unlock()
	return a.allowed, nil
}
