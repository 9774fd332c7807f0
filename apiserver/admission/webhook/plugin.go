// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
)

// hooksOf are those of the present configurations, compiled after each change of one.
func hooksOf[T kinds.Object](c *Config, resource string, compile func([]T) []*hook) *admission.Derived[[]*hook] {
	configurations := schema.GroupResource{Group: admissionregistrationv1.GroupName, Resource: resource}
	return admission.Derive(c.Reader, func(objects [][]kinds.Object) []*hook {
		typed := make([]T, 0, len(objects[0]))
		for _, item := range objects[0] {
			if obj, ok := item.(T); ok {
				typed = append(typed, obj)
			}
		}
		return compile(typed)
	}, configurations)
}

// Mutating is the MutatingAdmissionWebhook plugin.
type Mutating struct {
	cfg   Config
	hooks *admission.Derived[[]*hook]
}

// NewMutating makes the plugin.
func NewMutating(cfg Config) *Mutating {
	p := &Mutating{cfg: cfg}
	p.hooks = hooksOf(&p.cfg, "mutatingwebhookconfigurations", p.cfg.mutatingHooks)
	return p
}

// Admit implements admission.Mutator. Hooks are asked one after another, each with the changes of those before it.
func (p *Mutating) Admit(ctx context.Context, a *admission.Attributes) error {
	if exempt(a) {
		return nil
	}
	hooks, err := p.hooks.Get(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	for _, h := range hooks {
		key := "webhook " + h.key
		if !a.Reinvoke().Due(key) {
			continue
		}
		k, err := p.cfg.wants(ctx, h, a)
		if err != nil {
			return err
		}
		if k == nil {
			continue
		}
		changed, err := p.one(ctx, a, k)
		if err != nil {
			return err
		}
		if changed {
			a.Reinvoke().Changed()
		}
		if h.reinvoke && !a.Reinvoke().Second() {
			a.Reinvoke().Ran(key)
		}
	}
	return nil
}

func (p *Mutating) one(ctx context.Context, a *admission.Attributes, k *call) (changed bool, err error) {
	out := p.cfg.ask(ctx, a, k)
	tell(request.From(ctx), k.name, out)
	if out.failure == nil && out.refusal == nil && len(out.patch) > 0 {
		changed, out.failure = p.patch(a, k, out.patch)
	}
	return changed, p.cfg.settle(ctx, a, k, out)
}

// patch applies a JSON patch to the object in the hook's version.
func (p *Mutating) patch(a *admission.Attributes, k *call, data []byte) (bool, error) {
	if a.Object == nil {
		return false, errors.New("admission webhook attempted to modify the object, which is not supported for this operation")
	}
	patch, err := jsonpatch.DecodePatch(data)
	if err != nil {
		return false, fmt.Errorf("decode patch: %w", err)
	}
	if len(patch) == 0 {
		return false, nil
	}
	object, err := p.cfg.Versions.ToVersion(a.Object, a.Resource.GroupResource(), k.kind)
	if err != nil {
		return false, err
	}
	before, err := json.Marshal(object)
	if err != nil {
		return false, err
	}
	after, err := patch.Apply(before)
	if err != nil {
		return false, fmt.Errorf("apply patch: %w", err)
	}
	if jsonpatch.Equal(before, after) {
		return false, nil
	}
	return true, p.cfg.Versions.Apply(after, k.resource, k.kind, a.Object)
}

// settle turns an outcome into the answer for the client.
func (c *Config) settle(ctx context.Context, a *admission.Attributes, k *call, out outcome) error {
	if out.refusal != nil {
		return out.refusal
	}
	if out.failure == nil {
		return nil
	}
	if ctx.Err() != nil {
		return apierrors.NewTimeoutError(fmt.Sprintf("request did not complete within requested timeout - %v", ctx.Err()), 0)
	}
	if k.failOpen {
		if s := request.From(ctx); s != nil {
			s.Annotate("failed-open.admission.k8s.io/"+k.name, out.failure.Error())
		}
		return nil
	}
	c.reportBlocked(ctx, a, k.hook)
	return apierrors.NewInternalError(fmt.Errorf("failed calling webhook %q: %w", k.name, out.failure))
}

// tell passes on a hook's warnings and audit annotations.
func tell(s *request.State, name string, out outcome) {
	if s == nil {
		return
	}
	for _, w := range out.warnings {
		s.Warn(w)
	}
	for key, v := range out.annotations {
		s.Annotate(name+"/"+key, v)
	}
}

// Validating is the ValidatingAdmissionWebhook plugin.
type Validating struct {
	cfg   Config
	hooks *admission.Derived[[]*hook]
}

// NewValidating makes the plugin.
func NewValidating(cfg Config) *Validating {
	p := &Validating{cfg: cfg}
	p.hooks = hooksOf(&p.cfg, "validatingwebhookconfigurations", p.cfg.validatingHooks)
	return p
}

// Validate implements admission.Validator. All hooks are asked at the same time; all answers are awaited, and the first refusal in the order of
// configurations is returned.
func (p *Validating) Validate(ctx context.Context, a *admission.Attributes) error {
	if exempt(a) {
		return nil
	}
	hooks, err := p.hooks.Get(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	var calls []*call
	for _, h := range hooks {
		k, err := p.cfg.wants(ctx, h, a)
		if err != nil {
			return err
		}
		if k != nil {
			calls = append(calls, k)
		}
	}
	if len(calls) == 0 {
		return nil
	}
	outcomes := make([]outcome, len(calls))
	var wg sync.WaitGroup
	for i, k := range calls {
		wg.Go(func() { outcomes[i] = p.cfg.ask(ctx, a, k) })
	}
	wg.Wait()
	var first error
	for i, k := range calls {
		tell(request.From(ctx), k.name, outcomes[i])
		if err := p.cfg.settle(ctx, a, k, outcomes[i]); err != nil && first == nil {
			first = err
		}
	}
	return first
}
