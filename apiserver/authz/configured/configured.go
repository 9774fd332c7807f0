// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package configured is the chain of authorizers that an AuthorizationConfiguration file of apiserver.config.k8s.io names: those of this
// server, and webhooks. system:masters stay before all of them.
package configured

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/reviewhook"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/internal/reload"
)

// Config of a Chain. All fields are required.
type Config struct {
	// Path of the file.
	Path string
	// BuiltIn are the authorizers of this server by the type that the file calls them: Node, RBAC.
	BuiltIn  map[string]authz.Authorizer
	Dial     reviewhook.Dialer
	Compiler *expr.Compiler
	Log      *slog.Logger
}

// Chain is the authorizer that the file says. It reads the file again when it changes.
type Chain struct {
	config  Config
	file    *reload.File
	metrics *metrics
	current atomic.Pointer[links]
	// required are the types that the file named at the start: a change may not drop one.
	required []string
}

// links are what one content of the file says.
type links struct {
	authz.Chain

	// webhooks tells whether one of the links is a webhook.
	webhooks bool
}

var _ authz.Authorizer = (*Chain)(nil)

// New reads the file.
func New(config Config) (*Chain, error) {
	c := &Chain{config: config, metrics: newMetrics()}
	file, content, err := reload.Open(reload.Config{Path: config.Path, Name: "authorization_config_controller", Apply: c.apply, Log: config.Log})
	if err != nil {
		return nil, err
	}
	parsed, err := c.parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config.Path, err)
	}
	first, err := c.links(parsed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config.Path, err)
	}
	c.file, c.required = file, parsed.builtIn()
	c.current.Store(first)
	return c, nil
}

// Run watches the file until ctx ends.
func (c *Chain) Run(ctx context.Context) error { return c.file.Run(ctx) }

// Collectors are the chain's metrics.
func (c *Chain) Collectors() []prometheus.Collector {
	return append(c.file.Collectors(), c.metrics.collectors()...)
}

// Authorize implements authz.Authorizer.
func (c *Chain) Authorize(ctx context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	return c.current.Load().Authorize(ctx, a)
}

// HasWebhooks reports whether a webhook is asked, whose rules can't be listed.
func (c *Chain) HasWebhooks() bool { return c.current.Load().webhooks }

func (c *Chain) parse(content []byte) (*configuration, error) {
	return parse(content, c.config.Compiler, slices.Sorted(maps.Keys(c.config.BuiltIn)))
}

func (c *Chain) links(parsed *configuration) (*links, error) {
	out := &links{Chain: authz.Chain{authz.Masters{}}}
	for i, a := range parsed.file.Authorizers {
		link := c.config.BuiltIn[a.Type]
		if a.Type == typeWebhook {
			out.webhooks = true
			hook, err := newWebhook(c.config.Dial, a.Name, a.Webhook, parsed.conditions[i], c.config.Log, c.metrics)
			if err != nil {
				return nil, fmt.Errorf("authorizers[%d].webhook.connectionInfo.kubeConfigFile: %w", i, err)
			}
			link = hook
		}
		out.Chain = append(out.Chain, &counted{Authorizer: link, kind: a.Type, name: a.Name, metrics: c.metrics})
	}
	return out, nil
}

// apply puts a changed file in force.
func (c *Chain) apply(_ context.Context, content []byte) error {
	parsed, err := c.parse(content)
	if err != nil {
		return err
	}
	here := parsed.builtIn()
	if missing := slices.DeleteFunc(slices.Clone(c.required), func(t string) bool { return slices.Contains(here, t) }); len(missing) > 0 {
		return fmt.Errorf("missing required types: %v", missing)
	}
	if added := slices.DeleteFunc(here, func(t string) bool { return slices.Contains(c.required, t) }); len(added) > 0 {
		return fmt.Errorf("authorizer type %s is not allowed if it was not enabled at initial server startup", added[0])
	}
	next, err := c.links(parsed)
	if err != nil {
		return err
	}
	c.current.Store(next)
	return nil
}

// counted counts the decisions of a link.
type counted struct {
	authz.Authorizer

	kind, name string
	metrics    *metrics
}

// Authorize implements authz.Authorizer.
func (c *counted) Authorize(ctx context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	decision, reason, err := c.Authorizer.Authorize(ctx, a)
	switch decision {
	case authz.Allow:
		c.metrics.decisions.WithLabelValues(c.kind, c.name, "allowed").Inc()
	case authz.Deny:
		c.metrics.decisions.WithLabelValues(c.kind, c.name, "denied").Inc()
	default:
	}
	return decision, reason, err
}
