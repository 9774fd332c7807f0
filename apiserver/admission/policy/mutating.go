// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/kinds"
)

// Mutating is the MutatingAdmissionPolicy plugin.
type Mutating struct {
	cfg      Config
	policies *admission.Derived[[]*mutatingPolicy]
}

// NewMutating makes the plugin.
func NewMutating(cfg Config) *Mutating {
	p := &Mutating{cfg: cfg}
	p.policies = compiledOf(&p.cfg, "mutating", p.compile)
	return p
}

type mutatingPolicy struct {
	policy    *admissionregistrationv1.MutatingAdmissionPolicy
	rules     *rules
	bindings  []*mutatingBinding
	match     func() *expr.Match
	mutations func() ([]*expr.Mutation, error)
}

type mutatingBinding struct {
	binding *admissionregistrationv1.MutatingAdmissionPolicyBinding
	rules   *rules
}

func (p *Mutating) compile(policies, bindings []kinds.Object) []*mutatingPolicy {
	var out []*mutatingPolicy
	for _, item := range policies {
		obj, ok := item.(*admissionregistrationv1.MutatingAdmissionPolicy)
		if !ok {
			continue
		}
		m := &mutatingPolicy{policy: obj, rules: newRules(obj.Spec.MatchConstraints)}
		m.match = sync.OnceValue(func() *expr.Match { return p.cfg.Compiler.Match(conditions(obj.Spec.MatchConditions)) })
		m.mutations = sync.OnceValues(func() ([]*expr.Mutation, error) {
			var variables []expr.Named
			for _, v := range obj.Spec.Variables {
				variables = append(variables, expr.Named{Name: v.Name, Expression: v.Expression})
			}
			var sources []expr.MutationSource
			for _, s := range obj.Spec.Mutations {
				switch {
				case s.JSONPatch != nil:
					sources = append(sources, expr.MutationSource{Expression: s.JSONPatch.Expression, JSONPatch: true})
				case s.ApplyConfiguration != nil:
					sources = append(sources, expr.MutationSource{Expression: s.ApplyConfiguration.Expression})
				}
			}
			return p.cfg.Compiler.Mutations(obj.Spec.ParamKind != nil, variables, sources)
		})
		for _, b := range bindings {
			if binding, ok := b.(*admissionregistrationv1.MutatingAdmissionPolicyBinding); ok && binding.Spec.PolicyName == obj.Name {
				m.bindings = append(m.bindings, &mutatingBinding{binding: binding, rules: newRules(binding.Spec.MatchResources)})
			}
		}
		if len(m.bindings) > 0 {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(x, y *mutatingPolicy) int { return strings.Compare(x.policy.Name, y.policy.Name) })
	return out
}

// Admit implements admission.Mutator. Policies run in the order of their names, each on the result of those before.
func (p *Mutating) Admit(ctx context.Context, a *admission.Attributes) error {
	if exempt(a) || a.Operation == admission.Delete || a.Object == nil {
		return nil
	}
	list, err := p.policies.Get(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	for _, m := range list {
		key := "policy " + m.policy.Name
		if !a.Reinvoke().Due(key) {
			continue
		}
		if err := p.policy(ctx, a, m); err != nil {
			if failOpen(m.policy.Spec.FailurePolicy) {
				continue
			}
			return err
		}
		if m.policy.Spec.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy && !a.Reinvoke().Second() {
			a.Reinvoke().Ran(key)
		}
	}
	return nil
}

func (p *Mutating) policy(ctx context.Context, a *admission.Attributes, m *mutatingPolicy) error {
	if m.rules == nil {
		return p.refuse(a, m, "", errors.New("failed to configure policy: policy contained no match constraints, a required field"))
	}
	t, ok, err := p.cfg.match(ctx, m.rules, a, true)
	if err != nil {
		return p.refuse(a, m, "", fmt.Errorf("failed to configure policy: %w", err))
	}
	if !ok {
		return nil
	}
	for _, b := range m.bindings {
		if b.rules != nil {
			_, ok, err := p.cfg.match(ctx, b.rules, a, false)
			if err != nil {
				return p.refuse(a, m, b.binding.Name, fmt.Errorf("failed to configure binding: %w", err))
			}
			if !ok {
				continue
			}
		}
		params, err := p.cfg.params(ctx, m.policy.Spec.ParamKind, b.binding.Spec.ParamRef, a)
		if err != nil {
			return p.refuse(a, m, b.binding.Name, fmt.Errorf("failed to configure binding: %w", err))
		}
		for _, param := range params {
			if err := p.apply(ctx, a, m, t, param); err != nil {
				return p.refuse(a, m, b.binding.Name, err)
			}
		}
	}
	return nil
}

// refuse is the refusal for a policy that can't be applied. Upstream's has the code of what is forbidden and the reason of what is invalid.
func (p *Mutating) refuse(a *admission.Attributes, m *mutatingPolicy, binding string, err error) error {
	text := fmt.Sprintf("policy '%s' denied request: %v", m.policy.Name, err)
	if binding != "" {
		text = fmt.Sprintf("policy '%s' with binding '%s' denied request: %v", m.policy.Name, binding, err)
	}
	out := apierrors.NewForbidden(a.Resource.GroupResource(), a.NameOrUnknown(), err)
	out.ErrStatus.Reason, out.ErrStatus.Message = metav1.StatusReasonInvalid, text
	out.ErrStatus.Details.Causes = []metav1.StatusCause{{Message: text}}
	return out
}

// apply runs the policy's mutations with one parameter object.
func (p *Mutating) apply(ctx context.Context, a *admission.Attributes, m *mutatingPolicy, t target, param runtime.Object) error {
	in, err := p.cfg.input(ctx, a, t)
	if err != nil {
		return err
	}
	in.Params = param
	if len(m.policy.Spec.MatchConditions) > 0 {
		ok, _, err := m.match().Eval(ctx, in)
		if err != nil || !ok {
			return err
		}
	}
	mutations, err := m.mutations()
	if err != nil {
		return err
	}
	changed := false
	for _, mutation := range mutations {
		change, err := mutation.Eval(ctx, in)
		if err != nil {
			return err
		}
		before, err := json.Marshal(in.Object)
		if err != nil {
			return err
		}
		after, err := p.merge(before, change, t)
		if err != nil {
			return err
		}
		if jsonpatch.Equal(before, after) {
			continue
		}
		if err := p.cfg.Versions.Apply(after, t.resource, t.kind, a.Object); err != nil {
			return err
		}
		changed = true
		if in.Object, err = p.cfg.Versions.ToVersion(a.Object, a.Resource.GroupResource(), t.kind); err != nil {
			return err
		}
	}
	if changed {
		a.Reinvoke().Changed()
	}
	return nil
}

func (p *Mutating) merge(before []byte, change expr.Change, t target) ([]byte, error) {
	if change.Apply == nil {
		after, err := change.Patch.Apply(before)
		if errors.Is(err, jsonpatch.ErrTestFailed) {
			return before, nil // a failed test means "not this object"
		}
		if err != nil {
			return nil, fmt.Errorf("JSON Patch: %w", err)
		}
		return after, nil
	}
	if p.cfg.Types == nil {
		return nil, errors.New("apply configurations are not supported without type information")
	}
	types, err := p.cfg.Types(t.resource)
	if err != nil {
		return nil, err
	}
	live := &unstructured.Unstructured{}
	if err := live.UnmarshalJSON(before); err != nil {
		return nil, err
	}
	patch := &unstructured.Unstructured{Object: change.Apply}
	patch.SetGroupVersionKind(t.kind)
	want, err := types.ObjectToTyped(patch)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: failed to convert patch object to typed object: %w", err)
	}
	if atomics := atomicPaths(want); len(atomics) > 0 {
		return nil, fmt.Errorf("error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: %s", strings.Join(atomics, ", "))
	}
	have, err := types.ObjectToTyped(live, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: failed to convert original object to typed object: %w", err)
	}
	merged, err := have.Merge(want)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: failed to merge patch: %w", err)
	}
	out, err := types.TypedToObject(merged)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

var _ admission.Mutator = (*Mutating)(nil)
