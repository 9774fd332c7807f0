// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"

	"kogge.dev/kogge/client"
)

// gate decides who may come in. Answers of the API server are kept for a while.
type gate struct {
	config Config
	now    func() time.Time

	mu     sync.Mutex
	tokens map[[sha256.Size]byte]knownToken
	rules  map[question]answer
}

type knownToken struct {
	user  *user // nil: not a valid token
	until time.Time
}

type user struct {
	name, uid string
	groups    []string
	extra     map[string]authorizationv1.ExtraValue
}

// question is one access check; groups are joined, as slices can't be keys.
type question struct {
	user, groups, verb, subresource string
}

type answer struct {
	allowed bool
	until   time.Time
}

func newGate(config Config) *gate {
	return &gate{config: config, now: time.Now, tokens: map[[sha256.Size]byte]knownToken{}, rules: map[question]answer{}}
}

var errUnauthorized = errors.New("Unauthorized")

// check returns the HTTP status and reason of a refusal.
func (g *gate) check(r *http.Request) (int, error) {
	u, err := g.authenticate(r)
	if errors.Is(err, errUnauthorized) {
		return http.StatusUnauthorized, err
	}
	if err != nil {
		return http.StatusInternalServerError, err
	}
	verb := verbOf(r.Method)
	var last string
	for _, subresource := range subresources(r.URL.Path) {
		allowed, err := g.allowed(r.Context(), u, verb, subresource)
		if err != nil {
			return http.StatusInternalServerError, fmt.Errorf("Authorization error (user=%s, verb=%s, resource=nodes, subresource(s)=[%s])", u.name, verb, subresource) //nolint:staticcheck // upstream's text
		}
		if allowed {
			return 0, nil
		}
		last = subresource
	}
	return http.StatusForbidden, fmt.Errorf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=[%s])", u.name, verb, last) //nolint:staticcheck // upstream's text
}

// authenticate knows a user by client certificate or bearer token.
func (g *gate) authenticate(r *http.Request) (*user, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && g.config.ClientCA != nil {
		leaf := r.TLS.PeerCertificates[0]
		options := x509.VerifyOptions{Roots: g.config.ClientCA, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: g.now()}
		for _, c := range r.TLS.PeerCertificates[1:] {
			options.Intermediates.AddCert(c)
		}
		if _, err := leaf.Verify(options); err == nil && leaf.Subject.CommonName != "" {
			return &user{name: leaf.Subject.CommonName, groups: append(leaf.Subject.Organization, "system:authenticated")}, nil
		}
	}
	kind, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(kind, "Bearer") || token == "" || g.config.Client == nil {
		return nil, errUnauthorized
	}
	return g.review(r.Context(), token)
}

func (g *gate) review(ctx context.Context, token string) (*user, error) {
	key := sha256.Sum256([]byte(token))
	now := g.now()
	g.mu.Lock()
	known, ok := g.tokens[key]
	g.mu.Unlock()
	if !ok || now.After(known.until) {
		r := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
		result, err := client.Of[*authenticationv1.TokenReview](g.config.Client).Create(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("review token: %w", err)
		}
		known = knownToken{until: now.Add(g.config.TokenTTL)}
		if result.Status.Authenticated {
			info := result.Status.User
			known.user = &user{name: info.Username, uid: info.UID, groups: info.Groups, extra: map[string]authorizationv1.ExtraValue{}}
			for k, v := range info.Extra {
				known.user.extra[k] = authorizationv1.ExtraValue(v)
			}
		}
		g.mu.Lock()
		g.trimLocked(now)
		g.tokens[key] = known
		g.mu.Unlock()
	}
	if known.user == nil {
		return nil, errUnauthorized
	}
	return known.user, nil
}

// maxKnown bounds each cache; beyond it expired entries go, and if that is not enough all.
const maxKnown = 4096

func (g *gate) trimLocked(now time.Time) {
	if len(g.tokens) >= maxKnown {
		for key, t := range g.tokens {
			if now.After(t.until) {
				delete(g.tokens, key)
			}
		}
		if len(g.tokens) >= maxKnown {
			clear(g.tokens)
		}
	}
	if len(g.rules) >= maxKnown {
		for key, a := range g.rules {
			if now.After(a.until) {
				delete(g.rules, key)
			}
		}
		if len(g.rules) >= maxKnown {
			clear(g.rules)
		}
	}
}

func (g *gate) allowed(ctx context.Context, u *user, verb, subresource string) (bool, error) {
	if g.config.Client == nil {
		return false, nil
	}
	q := question{user: u.name, groups: strings.Join(u.groups, "\x00"), verb: verb, subresource: subresource}
	now := g.now()
	g.mu.Lock()
	known, ok := g.rules[q]
	g.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.allowed, nil
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.name, UID: u.uid, Groups: u.groups, Extra: u.extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: g.config.NodeName},
	}}
	result, err := client.Of[*authorizationv1.SubjectAccessReview](g.config.Client).Create(ctx, review)
	if err != nil {
		return false, err
	}
	a := answer{allowed: result.Status.Allowed, until: now.Add(g.config.DenyTTL)}
	if a.allowed {
		a.until = now.Add(g.config.AllowTTL)
	}
	g.mu.Lock()
	g.trimLocked(now)
	g.rules[q] = a
	g.mu.Unlock()
	return a.allowed, nil
}

func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return "get"
}

// subresources of nodes that allow a path, the narrowest first.
func subresources(path string) []string {
	const proxy = "proxy"
	switch splitPath(path) {
	case "stats":
		return []string{"stats"}
	case "metrics":
		return []string{"metrics"}
	case "logs":
		return []string{"log"}
	case "checkpoint":
		return []string{"checkpoint"}
	case "healthz":
		return []string{"healthz", proxy}
	case "configz":
		return []string{"configz", proxy}
	case "pods", "runningpods":
		return []string{"pods", proxy}
	}
	return []string{proxy}
}
