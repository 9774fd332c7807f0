// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"

	"kogge.dev/kogge/kinds"
)

// ServiceConfig configures the allocation of Service addresses and ports.
type ServiceConfig struct {
	// CIDRs are the address ranges of the cluster's Services, the primary family first; at most one per family. More ranges come from
	// ServiceCIDR objects.
	CIDRs []string
	// FirstNodePort and LastNodePort bound the node ports. Default 30000 and 32767.
	FirstNodePort, LastNodePort int
}

type services struct{}

func newServices(*Engine, ServiceConfig) (*services, error) { return &services{}, nil }

func (e *Engine) reserve(ctx context.Context, c *Call, obj, old kinds.Object, out *outcome) error {
	return nil
}

func (e *Engine) afterRemoval(b *bound, obj kinds.Object) {}
