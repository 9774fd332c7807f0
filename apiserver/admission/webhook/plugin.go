// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/codec"
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
	if len(hooks) > 0 {
		a.Reinvoke().Enter("webhooks", a.Object)
		defer func() { a.Reinvoke().Leave("webhooks", a.Object) }()
	}
	for i, h := range hooks {
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
		k.record = record{state: request.From(ctx), failedOpen: "failed-open.mutation", index: i, second: a.Reinvoke().Second()}
		changed, err := p.one(ctx, a, k)
		if err != nil {
			return err
		}
		if changed {
			a.Reinvoke().Changed()
		}
		if h.reinvoke {
			a.Reinvoke().Ran(key)
		}
	}
	return nil
}

func (p *Mutating) one(ctx context.Context, a *admission.Attributes, k *call) (changed bool, err error) {
	out := p.cfg.ask(ctx, a, k)
	tell(request.From(ctx), k.name, out)
	if out.failure == nil && out.refusal == nil && len(out.patch) > 0 {
		changed, out.failure, out.refusal = p.patch(a, k, out)
	}
	if out.asked {
		k.record.mutation(k.hook, changed)
	}
	return changed, p.cfg.settle(ctx, a, k, out)
}

// patch applies a JSON patch to the object in the hook's version. What can't be read of it is a failure of the hook, which the failure policy may
// overlook; that it can't be applied refuses the request.
func (p *Mutating) patch(a *admission.Attributes, k *call, out outcome) (changed bool, failure, refusal error) {
	patch, err := jsonpatch.DecodePatch(out.patch)
	switch {
	case err != nil:
		return false, fmt.Errorf("received undecodable patch in webhook response: %w", err), nil
	case len(patch) == 0:
		return false, nil, nil
	case a.Object == nil:
		return false, nil, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", k.name))
	case out.patchType != admissionv1.PatchTypeJSONPatch:
		return false, fmt.Errorf("unsupported patch type %q", out.patchType), nil
	}
	if changed, err = p.change(a, k, patch); err != nil {
		return false, nil, apierrors.NewInternalError(err)
	}
	k.record.patch(k.hook, patch)
	return changed, nil, nil
}

func (p *Mutating) change(a *admission.Attributes, k *call, patch jsonpatch.Patch) (bool, error) {
	object, err := p.cfg.Versions.ToVersion(a.Object, a.Resource.GroupResource(), k.kind)
	if err != nil {
		return false, err
	}
	before, err := json.Marshal(object)
	if err != nil {
		return false, err
	}
	after, err := patch.Apply(before)
	if err != nil || jsonpatch.Equal(before, after) {
		return false, err
	}
	return true, p.cfg.Versions.Apply(after, k.resource, k.kind, a.Object, codec.Lenient)
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
		k.record.open(k.hook)
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
		if key = name + "/" + key; len(validation.IsQualifiedName(key)) == 0 {
			s.Annotate(key, v)
		}
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
		k.record = record{state: request.From(ctx), failedOpen: "failed-open.validating", index: i}
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
