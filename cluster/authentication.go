// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authn/oidc"
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
	return a, nil
}
