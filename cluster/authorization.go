// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"log/slog"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/configured"
	"kogge.dev/kogge/expr"
)

// AuthorizationSettings say who decides what users may do.
type AuthorizationSettings struct {
	// ConfigFile holds an AuthorizationConfiguration (apiserver.config.k8s.io/v1): a chain of Node, RBAC and webhooks. It is read again when it
	// changes. Default Node, then RBAC.
	ConfigFile string `json:"configFile,omitempty"`
}

// authorization returns what makes the chain of the settings; nil for the default.
func (s AuthorizationSettings) authorization(log *slog.Logger) func(map[string]authz.Authorizer) (*configured.Chain, error) {
	if s.ConfigFile == "" {
		return nil
	}
	return func(builtIn map[string]authz.Authorizer) (*configured.Chain, error) {
		chain, err := configured.New(configured.Config{
			Path: s.ConfigFile, BuiltIn: builtIn, Dial: dialReviews, Compiler: expr.NewCompiler(), Log: log.With("component", "authorization"),
		})
		if err != nil {
			return nil, fmt.Errorf("api.authorization.configFile: %w", err)
		}
		return chain, nil
	}
}
