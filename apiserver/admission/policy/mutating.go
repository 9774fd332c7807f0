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
	"kogge.dev/kogge/codec"
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

// invocation is a policy that a request goes through, by one binding and with one parameter object.
type invocation struct {
	policy  *mutatingPolicy
	binding *admissionregistrationv1.MutatingAdmissionPolicyBinding
	target  target
	param   runtime.Object
}

// key names the invocation in the record of a second pass.
func (i *invocation) key() string {
	key := "policy " + i.policy.policy.Name + "/" + i.binding.Name
	if param, ok := i.param.(metav1.Object); ok {
		key += " " + param.GetNamespace() + "/" + param.GetName()
	}
	return key
}

// obstacle is why a policy could not be applied; binding is empty where it lies with the policy itself.
type obstacle struct {
	policy, binding string
	reason          metav1.StatusReason
	err             error
}

func (o *obstacle) String() string {
	if o.binding == "" {
		return fmt.Sprintf("policy %q denied request: %v", o.policy, o.err)
	}
	return fmt.Sprintf("policy '%s' with binding '%s' denied request: %v", o.policy, o.binding, o.err)
}

// mutatingRun takes one request through all policies.
type mutatingRun struct {
	plugin    *Mutating
	ctx       context.Context //nolint:containedctx // the run lives within one call
	a         *admission.Attributes
	obstacles []obstacle
}

// Admit implements admission.Mutator. Which policies a request goes through is decided by what it was before all of them; they run in the order of
// their names, each on the result of those before. What could not be applied is refused in the end, with all reasons.
func (p *Mutating) Admit(ctx context.Context, a *admission.Attributes) error {
	if exempt(a) {
		return nil
	}
	list, err := p.policies.Get(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	run := &mutatingRun{plugin: p, ctx: ctx, a: a}
	var due []invocation
	for _, m := range list {
		due = append(due, run.invocations(m)...)
	}
	if len(due) > 0 {
		a.Reinvoke().Enter("policies", a.Object)
		defer func() { a.Reinvoke().Leave("policies", a.Object) }()
	}
	for i := range due {
		if err := run.invoke(&due[i]); err != nil {
			return err
		}
	}
	return run.refusal()
}

// hinder records an obstacle, unless the policy says that it is to be ignored then.
func (r *mutatingRun) hinder(m *mutatingPolicy, binding string, reason metav1.StatusReason, err error) {
	if !failOpen(m.policy.Spec.FailurePolicy) {
		r.obstacles = append(r.obstacles, obstacle{policy: m.policy.Name, binding: binding, reason: reason, err: err})
	}
}

// refusal names all obstacles; the first gives the reason.
func (r *mutatingRun) refusal() error {
	if len(r.obstacles) == 0 {
		return nil
	}
	first := &r.obstacles[0]
	out := apierrors.NewForbidden(r.a.Resource.GroupResource(), r.a.NameOrUnknown(), first.err)
	out.ErrStatus.Message = first.String()
	if first.reason != "" {
		out.ErrStatus.Reason = first.reason
	}
	for i := range r.obstacles {
		out.ErrStatus.Details.Causes = append(out.ErrStatus.Details.Causes, metav1.StatusCause{Message: r.obstacles[i].String()})
	}
	return out
}

// invocations are those of a policy that the request is meant by.
func (r *mutatingRun) invocations(m *mutatingPolicy) []invocation {
	cfg := &r.plugin.cfg
	if m.rules == nil {
		r.hinder(m, "", "", errors.New("failed to configure policy: policy contained no match constraints, a required field"))
		return nil
	}
	t, ok, err := cfg.match(r.ctx, m.rules, r.a, true)
	if err == nil && ok {
		err = cfg.paramKind(m.policy.Spec.ParamKind)
	}
	if err != nil {
		r.hinder(m, "", "", fmt.Errorf("failed to configure policy: %w", err))
		return nil
	}
	if !ok {
		return nil
	}
	var out []invocation
	for _, b := range m.bindings {
		if b.rules != nil {
			_, ok, err := cfg.match(r.ctx, b.rules, r.a, false)
			if err != nil {
				r.hinder(m, b.binding.Name, "", fmt.Errorf("failed to configure binding: %w", err))
			}
			if err != nil || !ok {
				continue
			}
		}
		params, err := cfg.params(r.ctx, m.policy.Spec.ParamKind, b.binding.Spec.ParamRef, r.a)
		if err != nil {
			r.hinder(m, b.binding.Name, "", fmt.Errorf("failed to configure binding: %w", err))
			continue
		}
		for _, param := range params {
			out = append(out, invocation{policy: m, binding: b.binding, target: t, param: param})
		}
	}
	return out
}

// invoke evaluates a policy's conditions, and then its mutations one after another: one that fails does not keep the next from being tried. It returns
// what the policy's failure policy has no say in.
func (r *mutatingRun) invoke(i *invocation) error {
	m, record := i.policy, r.a.Reinvoke()
	in, err := r.plugin.cfg.input(r.ctx, r.a, i.target)
	if err != nil {
		return err
	}
	in.Params = i.param
	key := i.key()
	if !r.conditions(i, in) || !record.Due(key) {
		return nil
	}
	mutations, err := m.mutations()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	changed := false
	for _, mutation := range mutations {
		if in.Object == nil {
			break // There is nothing to change.
		}
		once, err := r.plugin.apply(r.ctx, r.a, i.target, in, mutation)
		if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
			return status
		}
		if err != nil {
			r.hinder(m, i.binding.Name, metav1.StatusReasonInvalid, err)
		}
		changed = changed || once
	}
	if changed {
		record.Changed()
	}
	if m.policy.Spec.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy {
		record.Ran(key)
	}
	return nil
}

// conditions tells whether the policy's conditions hold.
func (r *mutatingRun) conditions(i *invocation, in *expr.Input) bool {
	if len(i.policy.policy.Spec.MatchConditions) == 0 {
		return true
	}
	ok, _, err := i.policy.match().Eval(r.ctx, in)
	if err != nil {
		r.hinder(i.policy, i.binding.Name, metav1.StatusReasonInvalid, err)
	}
	return ok && err == nil
}

// apply runs one mutation on the object, of which in has the version that the policy sees, and says whether it changed anything.
func (p *Mutating) apply(ctx context.Context, a *admission.Attributes, t target, in *expr.Input, mutation *expr.Mutation) (changed bool, err error) {
	change, err := mutation.Eval(ctx, in)
	if err != nil {
		return false, err
	}
	before, err := json.Marshal(in.Object)
	if err != nil {
		return false, err
	}
	after, err := p.merge(before, change, t)
	if err != nil || jsonpatch.Equal(before, after) {
		return false, err
	}
	mode := codec.Strict // An expression can add any field to a JSON document; what it applies has passed the schema.
	if change.Apply != nil {
		mode = codec.Lenient
	}
	if err := p.cfg.Versions.Apply(after, t.resource, t.kind, a.Object, mode); err != nil {
		if change.Apply == nil {
			err = apierrors.NewInternalError(err)
		}
		return false, err
	}
	in.Object, err = p.cfg.Versions.ToVersion(a.Object, a.Resource.GroupResource(), t.kind)
	return true, err
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
