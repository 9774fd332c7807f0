// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/kinds"
)

// Validating is the ValidatingAdmissionPolicy plugin.
type Validating struct {
	cfg      Config
	policies *admission.Derived[[]*validatingPolicy]
}

// NewValidating makes the plugin.
func NewValidating(cfg Config) *Validating {
	p := &Validating{cfg: cfg}
	p.policies = compiledOf(&p.cfg, "validating", p.compile)
	return p
}

// validatingPolicy is a policy with its bindings, compiled on first use.
type validatingPolicy struct {
	policy   *admissionregistrationv1.ValidatingAdmissionPolicy
	rules    *rules
	bindings []*validatingBinding
	match    func() *expr.Match
	program  func() (*expr.Policy, error)
}

type validatingBinding struct {
	binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding
	rules   *rules
}

func (p *Validating) compile(policies, bindings []kinds.Object) []*validatingPolicy {
	var out []*validatingPolicy
	for _, item := range policies {
		obj, ok := item.(*admissionregistrationv1.ValidatingAdmissionPolicy)
		if !ok {
			continue
		}
		v := &validatingPolicy{policy: obj, rules: newRules(obj.Spec.MatchConstraints)}
		v.match = sync.OnceValue(func() *expr.Match { return p.cfg.Compiler.Match(conditions(obj.Spec.MatchConditions)) })
		v.program = sync.OnceValues(func() (*expr.Policy, error) { return p.cfg.Compiler.Policy(source(obj)) })
		for _, b := range bindings {
			if binding, ok := b.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding); ok && binding.Spec.PolicyName == obj.Name {
				v.bindings = append(v.bindings, &validatingBinding{binding: binding, rules: newRules(binding.Spec.MatchResources)})
			}
		}
		if len(v.bindings) > 0 {
			out = append(out, v)
		}
	}
	return out
}

func conditions(list []admissionregistrationv1.MatchCondition) []expr.Named {
	out := make([]expr.Named, len(list))
	for i, m := range list {
		out[i] = expr.Named{Name: m.Name, Expression: m.Expression}
	}
	return out
}

func source(p *admissionregistrationv1.ValidatingAdmissionPolicy) expr.PolicySource {
	src := expr.PolicySource{HasParams: p.Spec.ParamKind != nil}
	for _, v := range p.Spec.Variables {
		src.Variables = append(src.Variables, expr.Named{Name: v.Name, Expression: v.Expression})
	}
	for _, v := range p.Spec.Validations {
		src.Validations = append(src.Validations, expr.Validation{Expression: v.Expression, Message: v.Message, MessageExpression: v.MessageExpression})
	}
	for _, n := range p.Spec.AuditAnnotations {
		src.Annotations = append(src.Annotations, expr.Named{Name: n.Key, Expression: n.ValueExpression})
	}
	return src
}

// denial is one reason to refuse.
type denial struct {
	policy, binding, message string
	reason                   metav1.StatusReason
}

// Validate implements admission.Validator. All policies are evaluated; the first denial is returned.
func (p *Validating) Validate(ctx context.Context, a *admission.Attributes) error {
	if exempt(a) {
		return nil
	}
	list, err := p.policies.Get(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	run := &validatingRun{plugin: p, ctx: ctx, a: a, state: request.From(ctx)}
	for _, v := range list {
		run.policy(v)
	}
	run.report()
	if len(run.denials) == 0 {
		return nil
	}
	return run.denials[0].error(a)
}

func (d *denial) error(a *admission.Attributes) error {
	text := fmt.Sprintf("ValidatingAdmissionPolicy '%s' denied request: %s", d.policy, d.message)
	if d.binding != "" {
		text = fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", d.policy, d.binding, d.message)
	}
	err := apierrors.NewForbidden(a.Resource.GroupResource(), a.NameOrUnknown(), errors.New(text))
	if d.reason == "" {
		d.reason = metav1.StatusReasonInvalid
	}
	err.ErrStatus.Reason = d.reason
	err.ErrStatus.Code = codeOf(d.reason)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: text})
	return err
}

func codeOf(reason metav1.StatusReason) int32 {
	switch reason {
	case metav1.StatusReasonForbidden:
		return http.StatusForbidden
	case metav1.StatusReasonUnauthorized:
		return http.StatusUnauthorized
	case metav1.StatusReasonRequestEntityTooLarge:
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusUnprocessableEntity
	}
}

// validatingRun collects what all policies say about one request.
type validatingRun struct {
	plugin   *Validating
	ctx      context.Context //nolint:containedctx // the run lives within one call
	a        *admission.Attributes
	state    *request.State
	denials  []denial
	failures []auditFailure
}

// auditFailure is one entry of the audit annotation, as upstream writes it.
type auditFailure struct {
	Message           string   `json:"message"`
	Policy            string   `json:"policy"`
	Binding           string   `json:"binding"`
	ExpressionIndex   int      `json:"expressionIndex"`
	ValidationActions []string `json:"validationActions"`
}

// fail records that a policy could not be evaluated.
func (r *validatingRun) fail(v *validatingPolicy, binding string, err error) {
	if failOpen(v.policy.Spec.FailurePolicy) {
		return
	}
	r.denials = append(r.denials, denial{policy: v.policy.Name, binding: binding, message: err.Error()})
}

func (r *validatingRun) policy(v *validatingPolicy) {
	if v.rules == nil {
		r.fail(v, "", errors.New("failed to configure policy: policy contained no match constraints, a required field"))
		return
	}
	t, ok, err := r.plugin.cfg.match(r.ctx, v.rules, r.a, true)
	if err == nil && ok {
		err = r.plugin.cfg.paramKind(v.policy.Spec.ParamKind)
	}
	if err != nil {
		r.fail(v, "", fmt.Errorf("failed to configure policy: %w", err))
		return
	}
	if !ok {
		return
	}
	for _, b := range v.bindings {
		r.binding(v, b, t)
	}
}

func (r *validatingRun) binding(v *validatingPolicy, b *validatingBinding, t target) {
	name := b.binding.Name
	if b.rules != nil {
		_, ok, err := r.plugin.cfg.match(r.ctx, b.rules, r.a, false)
		if err != nil {
			r.fail(v, name, fmt.Errorf("failed to configure binding: %w", err))
			return
		}
		if !ok {
			return
		}
	}
	params, err := r.plugin.cfg.params(r.ctx, v.policy.Spec.ParamKind, b.binding.Spec.ParamRef, r.a)
	if err != nil {
		r.fail(v, name, fmt.Errorf("failed to configure binding: %w", err))
		return
	}
	for _, param := range params {
		r.evaluate(v, b, t, param)
	}
}

func (r *validatingRun) evaluate(v *validatingPolicy, b *validatingBinding, t target, param runtime.Object) {
	name := b.binding.Name
	in, err := r.plugin.cfg.input(r.ctx, r.a, t)
	if err != nil {
		r.fail(v, name, err)
		return
	}
	in.Params = param
	if len(v.policy.Spec.MatchConditions) > 0 {
		ok, _, err := v.match().Eval(r.ctx, in)
		if err != nil {
			r.fail(v, name, err)
			return
		}
		if !ok {
			return
		}
	}
	program, err := v.program()
	if err != nil {
		r.fail(v, name, err)
		return
	}
	verdicts, notes, err := program.Eval(r.ctx, in)
	if err != nil {
		r.fail(v, name, err)
		return
	}
	for i, verdict := range verdicts {
		if verdict.OK || verdict.Err != nil && failOpen(v.policy.Spec.FailurePolicy) {
			continue
		}
		r.act(v, b, i, verdict)
	}
	r.annotate(v, name, notes)
}

// annotate writes to the audit log what the policy says of the request. What could not be evaluated refuses it, whatever the binding asks for otherwise.
func (r *validatingRun) annotate(v *validatingPolicy, binding string, notes []expr.Annotation) {
	for _, n := range notes {
		switch {
		case n.Err != nil:
			r.fail(v, binding, n.Err)
		case n.Value != "" && r.state != nil:
			r.state.Annotate(v.policy.Name+"/"+n.Name, n.Value)
		}
	}
}

// act does what the binding asks for.
func (r *validatingRun) act(v *validatingPolicy, b *validatingBinding, index int, verdict expr.Verdict) {
	for _, action := range b.binding.Spec.ValidationActions {
		switch action {
		case admissionregistrationv1.Deny:
			d := denial{policy: v.policy.Name, binding: b.binding.Name, message: verdict.Message}
			if reason := v.policy.Spec.Validations[index].Reason; reason != nil {
				d.reason = *reason
			}
			r.denials = append(r.denials, d)
		case admissionregistrationv1.Warn:
			if r.state != nil {
				r.state.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", v.policy.Name, b.binding.Name, verdict.Message))
			}
		case admissionregistrationv1.Audit:
			var actions []string
			for _, x := range b.binding.Spec.ValidationActions {
				actions = append(actions, string(x))
			}
			r.failures = append(r.failures, auditFailure{verdict.Message, v.policy.Name, b.binding.Name, index, actions})
		}
	}
}

func (r *validatingRun) report() {
	if len(r.failures) == 0 || r.state == nil {
		return
	}
	slices.SortStableFunc(r.failures, func(x, y auditFailure) int { return strings.Compare(x.Policy, y.Policy) })
	if data, err := json.Marshal(r.failures); err == nil {
		r.state.Annotate("validation.policy.admission.k8s.io/validation_failure", string(data))
	}
}
