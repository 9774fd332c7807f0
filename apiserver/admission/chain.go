// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
)

// Chain runs plugins in a fixed order. It holds no state between requests and is safe for concurrent use.
type Chain struct {
	plugins []Plugin
}

// NewChain makes a chain; the slice's order is the order of both passes.
func NewChain(plugins []Plugin) *Chain { return &Chain{plugins: plugins} }

// Mutate runs the mutating pass. Plugins change a.Object in place. When a webhook or policy asked for reinvocation because a
// later plugin changed what it had seen, the pass runs a second time, and never a third.
func (c *Chain) Mutate(ctx context.Context, a *Attributes) error {
	if a.Reinvocation == nil {
		a.Reinvocation = &Reinvocation{}
	}
	if err := c.mutateOnce(ctx, a); err != nil {
		return err
	}
	if !a.Reinvocation.wanted {
		return nil
	}
	a.Reinvocation.second = true
	return c.mutateOnce(ctx, a)
}

func (c *Chain) mutateOnce(ctx context.Context, a *Attributes) error {
	for _, p := range c.plugins {
		if p.Mutate == nil {
			continue
		}
		if err := p.Mutate.Admit(ctx, a); err != nil {
			return asStatus(err)
		}
	}
	return nil
}

// Validate runs the validating pass. It stops at the first refusal.
func (c *Chain) Validate(ctx context.Context, a *Attributes) error {
	for _, p := range c.plugins {
		if p.Validate == nil {
			continue
		}
		if err := p.Validate.Validate(ctx, a); err != nil {
			return asStatus(err)
		}
	}
	return nil
}

// Reinvocation is what the mutating plugins of one request tell each other about a second pass. It belongs to one request
// and is used by one goroutine at a time.
//
//	first pass:  plugin A ran (Ran), plugin B changed the object afterwards (Want, if A is among those that ran)
//	second pass: Second is true; only plugins recorded by Ran and with policy IfNeeded run again
type Reinvocation struct {
	wanted, second bool
	// ran holds the keys of those that would like to run again when somebody after them changes the object.
	ran map[string]bool
	// again holds the keys that a later change made due.
	again map[string]bool
}

// Second reports whether this is the second pass.
func (r *Reinvocation) Second() bool { return r != nil && r.second }

// Ran records that a reinvocable plugin ran in the first pass.
func (r *Reinvocation) Ran(key string) {
	if r == nil {
		return
	}
	if r.ran == nil {
		r.ran = map[string]bool{}
	}
	r.ran[key] = true
}

// Changed records that the object changed now: all that ran before are due again, and a second pass is wanted if there
// are any.
func (r *Reinvocation) Changed() {
	if r == nil || r.second || len(r.ran) == 0 {
		return
	}
	r.wanted = true
	if r.again == nil {
		r.again = map[string]bool{}
	}
	for key := range r.ran {
		r.again[key] = true
	}
}

// Due reports whether the plugin of that key runs again in the second pass.
func (r *Reinvocation) Due(key string) bool { return r != nil && r.again[key] }
