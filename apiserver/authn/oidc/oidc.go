// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package oidc recognises tokens of other issuers (OpenID Connect) as an AuthenticationConfiguration file of apiserver.config.k8s.io says.
//
//	file ── parse, compile ── generation ─┬─ issuer ── run: discovery, keys
//	  └─ changed: the next generation     └─ issuer    takes over when all its issuers were reached
package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/internal/reload"
)

// algorithms that a token may be signed with.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
}

// Config of an Authenticator. All fields are required.
type Config struct {
	// Path of the file.
	Path string
	// Disallowed are issuers whose tokens somebody else recognises: the cluster's own.
	Disallowed []string
	Compiler   *expr.Compiler
	Log        *slog.Logger
}

// Authenticator recognises tokens of the issuers of a file, and reads it again when it changes.
type Authenticator struct {
	config  Config
	file    *reload.File
	metrics *metrics
	current atomic.Pointer[generation]
	// running counts the goroutines of all generations.
	running sync.WaitGroup
}

// generation is what one content of the file says.
type generation struct {
	file    *apiserverv1.AuthenticationConfiguration
	issuers map[string]*issuer
	// stop ends the goroutines of the issuers; nil before launch.
	stop context.CancelFunc
}

var _ authn.TokenAuthenticator = (*Authenticator)(nil)

// New reads the file. Issuers are asked for their keys by Run; until then their tokens are refused.
func New(config Config) (*Authenticator, error) {
	a := &Authenticator{config: config, metrics: newMetrics()}
	file, content, err := reload.Open(reload.Config{Path: config.Path, Name: "authentication_config_controller", Apply: a.apply, Log: config.Log})
	if err != nil {
		return nil, err
	}
	first, err := a.generation(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config.Path, err)
	}
	a.file = file
	a.current.Store(first)
	return a, nil
}

// Collectors are the authenticator's metrics.
func (a *Authenticator) Collectors() []prometheus.Collector {
	return append(a.file.Collectors(), a.metrics.latency, a.metrics.fetched)
}

// Anonymous tells which paths the file lets requests without credentials reach; nil when the file says nothing about them. It does not
// change.
func (a *Authenticator) Anonymous() func(path string) bool {
	anonymous := a.current.Load().file.Anonymous
	switch {
	case anonymous == nil:
		return nil
	case !anonymous.Enabled:
		return func(string) bool { return false }
	case len(anonymous.Conditions) == 0:
		return func(string) bool { return true }
	}
	return func(path string) bool {
		return slices.ContainsFunc(anonymous.Conditions, func(c apiserverv1.AnonymousAuthCondition) bool { return c.Path == path })
	}
}

// Run asks issuers for their keys and watches the file until ctx ends.
func (a *Authenticator) Run(ctx context.Context) error {
	defer a.running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.launch(ctx, a.current.Load())
	return a.file.Run(ctx)
}

func (a *Authenticator) generation(content []byte) (*generation, error) {
	c, err := parse(content, a.config.Compiler, a.config.Disallowed)
	if err != nil {
		return nil, err
	}
	g := &generation{file: &c.file, issuers: map[string]*issuer{}}
	for _, r := range c.issuers {
		g.issuers[r.jwt.Issuer.URL] = newIssuer(r, a.config.Log, a.metrics)
	}
	return g, nil
}

func (a *Authenticator) launch(ctx context.Context, g *generation) {
	ctx, g.stop = context.WithCancel(ctx)
	for _, i := range g.issuers {
		a.running.Go(func() { i.run(ctx) })
	}
}

// reachTimeout bounds how long a changed file waits for its issuers before it is given up for the moment.
const reachTimeout = time.Minute

// apply puts a changed file in force, once all its issuers were reached.
func (a *Authenticator) apply(ctx context.Context, content []byte) error {
	next, err := a.generation(content)
	if err != nil {
		return err
	}
	before := a.current.Load()
	if !reflect.DeepEqual(before.file.Anonymous, next.file.Anonymous) {
		return field.Forbidden(field.NewPath("anonymous"), "changed from initial configuration file")
	}
	a.launch(ctx, next)
	wait, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	for _, i := range next.issuers {
		if err := i.ready(wait); err != nil {
			next.stop()
			return fmt.Errorf("%w (%w)", err, reload.ErrPasses)
		}
	}
	a.current.Store(next)
	before.stop()
	return nil
}

// AuthenticateToken implements authn.TokenAuthenticator. Audiences are not asked for here: the file says which tokens are meant for this
// API server.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string, _ []string) (*authn.TokenUser, bool, error) {
	g := a.current.Load()
	i := g.issuers[unverifiedIssuer(token)]
	if i == nil {
		return nil, false, nil
	}
	began := time.Now()
	user, err := i.authenticate(ctx, token, began)
	if errors.Is(err, errEnded) && a.current.Load() != g { // The file has changed meanwhile.
		return a.AuthenticateToken(ctx, token, nil)
	}
	result := "success"
	if err != nil {
		result = "failure"
		err = fmt.Errorf("token of issuer %q: %w", i.jwt.Issuer.URL, err)
	}
	a.metrics.latency.WithLabelValues(result, i.hash).Observe(time.Since(began).Seconds())
	if err != nil {
		return nil, false, err
	}
	return &authn.TokenUser{User: *user}, true, nil
}

// google writes its name without the scheme in some tokens (OpenID Connect Core 1.0, section 15.6.2).
const google = "accounts.google.com"

// unverifiedIssuer looks who a token claims to be of; empty for what is no token.
func unverifiedIssuer(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var peek struct {
		Issuer string `json:"iss"`
	}
	switch err := json.Unmarshal(payload, &peek); {
	case err != nil:
		return ""
	case peek.Issuer == google:
		return "https://" + google
	}
	return peek.Issuer
}

// notBeforeLeeway forgives differences of clocks.
const notBeforeLeeway = time.Minute

// claims are the claims of a verified token.
type claims map[string]json.RawMessage

// signed verifies a token: signature, issuer, audience and times.
func (i *issuer) signed(ctx context.Context, token string, now time.Time) (claims, error) {
	parsed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, err
	}
	payload, err := i.verify(ctx, parsed)
	if err != nil {
		return nil, err
	}
	var standard struct {
		Issuer    string    `json:"iss"`
		Audience  audiences `json:"aud"`
		Expiry    *seconds  `json:"exp"`
		NotBefore *seconds  `json:"nbf"`
	}
	var c claims
	if err := errors.Join(json.Unmarshal(payload, &standard), json.Unmarshal(payload, &c)); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	want := i.jwt.Issuer.URL
	switch {
	case standard.Issuer != want && (standard.Issuer != google || want != "https://"+google):
		return nil, fmt.Errorf("is of another issuer, %q", standard.Issuer)
	case !slices.ContainsFunc(standard.Audience, func(a string) bool { return slices.Contains(i.jwt.Issuer.Audiences, a) }):
		return nil, fmt.Errorf("expected audience in %q got %q", i.jwt.Issuer.Audiences, []string(standard.Audience))
	case standard.Expiry == nil:
		return nil, errors.New("has no exp claim")
	case standard.Expiry.time().Before(now):
		return nil, fmt.Errorf("is expired since %v", standard.Expiry.time().UTC())
	case standard.NotBefore != nil && now.Add(notBeforeLeeway).Before(standard.NotBefore.time()):
		return nil, fmt.Errorf("is not valid before %v", standard.NotBefore.time().UTC())
	}
	return c, nil
}

// audiences is a text or a list of texts.
type audiences []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audiences) UnmarshalJSON(data []byte) error {
	var list []string
	if err := json.Unmarshal(data, &list); err == nil {
		*a = list
		return nil
	}
	var one string
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*a = audiences{one}
	return nil
}

// seconds since 1970; issuers write fractions and exponents, too.
type seconds float64

func (s *seconds) time() time.Time { return time.Unix(int64(*s), 0) }

func (c claims) has(name string) bool { _, ok := c[name]; return ok }

// text returns a claim that must be a text.
func (c claims) text(name string) (string, error) {
	raw, ok := c[name]
	if !ok {
		return "", errors.New("claim not present")
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", err
	}
	if s == nil {
		return "", nil
	}
	return *s, nil
}
