// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/internal/equal"
)

// Reinvoking wraps the last mutating plugin, which calls webhooks. When a webhook or a policy changed the object, Earlier run once
// more on the result, and with them those policies and webhooks that asked for it. There is never a third pass.
type Reinvoking struct {
	Earlier []Plugin
	Last    Mutator
}

// Admit implements Mutator.
func (r *Reinvoking) Admit(ctx context.Context, a *Attributes) error {
	if err := r.Last.Admit(ctx, a); err != nil || a.Reinvocation == nil || !a.Reinvocation.wanted {
		return err
	}
	a.Reinvocation.second = true
	for _, p := range r.Earlier {
		if p.Mutate == nil {
			continue
		}
		if err := p.Mutate.Admit(ctx, a); err != nil {
			return err
		}
	}
	return r.Last.Admit(ctx, a)
}

// Reinvocation is what the mutating plugins of one request tell each other about a second pass. It belongs to one request
// and is used by one goroutine at a time.
//
//	first pass:  plugin A ran (Ran), B changed the object (Changed): A is due again
//	second pass: Second is true; built-in plugins run, and of the recorded ones those that are due. What these change makes more of them due, of which
//	             those run that come later
type Reinvocation struct {
	wanted, second bool
	// left is the object as each of those plugins left it in the first pass, if any of them is to run again after changes.
	left map[string]runtime.Object
	// ran holds the keys of those that would like to run again when somebody after them changes the object.
	ran map[string]bool
	// again holds the keys that a later change made due.
	again map[string]bool
}

// Reinvoke returns the request's record, making it at first use.
func (a *Attributes) Reinvoke() *Reinvocation {
	if a.Reinvocation == nil {
		a.Reinvocation = &Reinvocation{ran: map[string]bool{}, again: map[string]bool{}, left: map[string]runtime.Object{}}
	}
	return a.Reinvocation
}

// Second reports whether this is the second pass.
func (r *Reinvocation) Second() bool { return r.second }

// Ran records that a reinvocable plugin ran; call it after Changed for the plugin's own change.
func (r *Reinvocation) Ran(key string) { r.ran[key] = true }

// Changed records that the object changed now: all that ran before are due again, and a second pass is wanted.
func (r *Reinvocation) Changed() {
	r.wanted = true
	for key := range r.ran {
		r.again[key] = true
	}
	clear(r.ran)
}

// Enter is called by a plugin that calls such plugins, before it does: in the second pass others may have changed the object since it left it.
func (r *Reinvocation) Enter(plugin string, object runtime.Object) {
	if before, ok := r.left[plugin]; ok && r.second && !equal.Semantic(before, object) {
		r.Changed()
	}
}

// Leave is called when it is done.
func (r *Reinvocation) Leave(plugin string, object runtime.Object) {
	if object != nil && !r.second && len(r.ran)+len(r.again) > 0 {
		r.left[plugin] = object.DeepCopyObject()
	}
}

// Due reports whether the plugin of that key runs now: always in the first pass, and in the second if a later change asks for it.
func (r *Reinvocation) Due(key string) bool { return !r.second || r.again[key] }
