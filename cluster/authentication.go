// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authn/oidc"
	"kogge.dev/kogge/apiserver/reviewhook"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/expr"
)

// AuthenticationSettings say whose tokens the API server believes besides the cluster's own.
type AuthenticationSettings struct {
	// ConfigFile holds an AuthenticationConfiguration (apiserver.config.k8s.io/v1): issuers of OpenID Connect, and what may be asked without
	// credentials. It is read again when it changes.
	ConfigFile string `json:"configFile,omitempty"`
	// TokenFile is a list of tokens: token,user,uid,"group1,group2" on each line. It is read once.
	TokenFile string `json:"tokenFile,omitempty"`
	// Webhook is asked about tokens that nobody else recognises; default none.
	Webhook TokenWebhookSettings `json:"webhook"`
}

// TokenWebhookSettings describe a server that is asked about tokens.
type TokenWebhookSettings struct {
	// ConfigFile is a kubeconfig that names the server, which answers TokenReviews (authentication.k8s.io/v1).
	ConfigFile string `json:"configFile,omitempty"`
	// CacheTTL is how long its answers are remembered; default 2m, 0s for not at all.
	CacheTTL *metav1.Duration `json:"cacheTTL,omitempty"`
}

// defaultCacheTTL of a token webhook's answers.
const defaultCacheTTL = 2 * time.Minute

func (s *AuthenticationSettings) validate() error {
	ttl := s.Webhook.CacheTTL
	switch {
	case ttl != nil && ttl.Duration < 0:
		return fmt.Errorf("api.authentication.webhook.cacheTTL: %s is negative", ttl.Duration)
	case ttl != nil && s.Webhook.ConfigFile == "":
		return errors.New("api.authentication.webhook.configFile: required where cacheTTL is given")
	}
	return nil
}

// authentication is what the settings add to the cluster's own means.
type authentication struct {
	tokens     []authn.TokenAuthenticator
	anonymous  func(path string) bool
	runners    []apiserver.Runner
	collectors []prometheus.Collector
}

func openAuthentication(s AuthenticationSettings, log *slog.Logger) (authentication, error) {
	var a authentication
	log = log.With("component", "authentication")
	server := []string{control.Issuer}
	if s.TokenFile != "" {
		text, err := os.ReadFile(s.TokenFile)
		if err != nil {
			return a, fmt.Errorf("api.authentication.tokenFile: %w", err)
		}
		file, err := authn.ParseTokenFile(text)
		if err != nil {
			return a, fmt.Errorf("api.authentication.tokenFile %s: %w", s.TokenFile, err)
		}
		a.tokens = append(a.tokens, authn.ForServer{Tokens: file, Audiences: server})
	}
	if s.ConfigFile != "" {
		issuers, err := oidc.New(oidc.Config{Path: s.ConfigFile, Disallowed: server, Compiler: expr.NewCompiler(), Log: log})
		if err != nil {
			return a, fmt.Errorf("api.authentication.configFile: %w", err)
		}
		a.tokens = append(a.tokens, authn.ForServer{Tokens: issuers, Audiences: server})
		a.anonymous = issuers.Anonymous()
		a.runners = append(a.runners, apiserver.Runner{Name: "authentication configuration", Run: issuers.Run})
		a.collectors = append(a.collectors, issuers.Collectors()...)
	}
	if s.Webhook.ConfigFile != "" {
		hook, err := dialReviews(s.Webhook.ConfigFile, authn.WebhookTimeout)
		if err != nil {
			return a, fmt.Errorf("api.authentication.webhook.configFile: %w", err)
		}
		ttl := defaultCacheTTL
		if s.Webhook.CacheTTL != nil {
			ttl = s.Webhook.CacheTTL.Duration
		}
		a.tokens = append(a.tokens, authn.NewTokenCache(authn.Webhook{Server: hook, Audiences: server}, authn.CacheConfig{Known: ttl, Unknown: ttl}))
	}
	return a, nil
}

// dialReviews is the reviewhook.Dialer of kubeconfigs.
func dialReviews(path string, timeout time.Duration) (*reviewhook.Server, error) {
	url, caller, err := openWebhook(path, timeout)
	if err != nil {
		return nil, err
	}
	return &reviewhook.Server{URL: url, Client: caller}, nil
}
