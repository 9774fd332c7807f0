// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	celtypes "github.com/google/cel-go/common/types"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// PolicySource is what a validating policy consists of, in expressions.
type PolicySource struct {
	// HasParams declares the params variable.
	HasParams bool
	// Variables may use those before them.
	Variables   []Named
	Validations []Validation
	Annotations []Named
}

// Validation is one rule.
type Validation struct {
	Expression, Message, MessageExpression string
}

// Policy is a compiled validating policy.
type Policy struct {
	source      PolicySource
	validations plugincel.ConditionEvaluator
	messages    plugincel.ConditionEvaluator
	annotations plugincel.ConditionEvaluator
}

// Policy compiles a validating policy. Expressions that don't compile fail when they are evaluated.
func (c *Compiler) Policy(src PolicySource) (*Policy, error) {
	compiler, err := plugincel.NewCompositedCompiler(c.base())
	if err != nil {
		return nil, fmt.Errorf("prepare CEL environment: %w", err)
	}
	full := plugincel.OptionalVariableDeclarations{HasParams: src.HasParams, HasAuthorizer: true}
	variables := make([]plugincel.NamedExpressionAccessor, len(src.Variables))
	for i := range src.Variables {
		variables[i] = &src.Variables[i]
	}
	compiler.CompileAndStoreVariables(variables, full, environment.StoredExpressions)
	p := &Policy{source: src}
	var rules, messages, annotations []plugincel.ExpressionAccessor
	for i := range src.Validations {
		v := &src.Validations[i]
		rules = append(rules, &condition{Named{Expression: v.Expression}})
		if v.MessageExpression == "" {
			messages = append(messages, nil)
			continue
		}
		messages = append(messages, &text{Named{Expression: v.MessageExpression}})
	}
	for i := range src.Annotations {
		annotations = append(annotations, &nullableText{src.Annotations[i]})
	}
	p.validations = compiler.CompileCondition(rules, full, environment.StoredExpressions)
	// Messages must not tell users what they may do: they have no authorizer.
	p.messages = compiler.CompileCondition(messages, plugincel.OptionalVariableDeclarations{HasParams: src.HasParams}, environment.StoredExpressions)
	p.annotations = compiler.CompileCondition(annotations, full, environment.StoredExpressions)
	return p, nil
}

// Verdict on one validation.
type Verdict struct {
	// OK means that the rule holds. Err means that it could not be evaluated, which the failure policy decides about.
	OK      bool
	Err     error
	Message string
}

// Annotation is an evaluated audit annotation; an empty value is left out.
type Annotation struct {
	Name, Value string
	Err         error
}

// maxMessage bounds what a message expression may return, in bytes.
const maxMessage = celconfig.MaxEvaluatedMessageExpressionSizeBytes

// Eval evaluates all validations and annotations. An error means that nothing could be evaluated.
func (p *Policy) Eval(ctx context.Context, in *Input) ([]Verdict, []Annotation, error) {
	v := in.versioned()
	req := in.request(v)
	results, budget, err := p.validations.ForInput(ctx, v, req, in.bindings(), in.NamespaceObject, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return nil, nil, err
	}
	messages, _, err := p.messages.ForInput(ctx, v, req, plugincel.OptionalVariableBindings{VersionedParams: in.Params}, in.NamespaceObject, budget)
	if err != nil {
		return nil, nil, err
	}
	out := make([]Verdict, len(results))
	for i, r := range results {
		switch {
		case r.Error != nil:
			out[i] = Verdict{Err: r.Error, Message: r.Error.Error()}
		case r.EvalResult == celtypes.True:
			out[i] = Verdict{OK: true}
		default:
			var own *plugincel.EvaluationResult
			if i < len(messages) {
				own = &messages[i]
			}
			out[i] = Verdict{Message: message(&p.source.Validations[i], own)}
		}
	}
	if len(p.source.Annotations) == 0 {
		return out, nil, nil
	}
	extra, _, err := p.annotations.ForInput(ctx, v, req, in.bindings(), in.NamespaceObject, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return out, nil, err
	}
	notes := make([]Annotation, 0, len(extra))
	for i, r := range extra {
		n := Annotation{Name: p.source.Annotations[i].Name, Err: r.Error}
		if text, ok := textOf(&r); ok {
			n.Value = strings.TrimSpace(text)
		}
		notes = append(notes, n)
	}
	return out, notes, nil
}

// message is what the user is told: the message expression's result if it is a usable text, else the message, else the rule.
func message(v *Validation, r *plugincel.EvaluationResult) string {
	if r != nil && r.Error == nil {
		if s, ok := textOf(r); ok {
			s = strings.TrimSpace(s)
			if s != "" && len(s) <= maxMessage && !strings.ContainsAny(s, "\n\r") {
				return s
			}
		}
	}
	if m := strings.TrimSpace(v.Message); m != "" {
		return m
	}
	return "failed expression: " + strings.TrimSpace(v.Expression)
}

func textOf(r *plugincel.EvaluationResult) (string, bool) {
	if r.EvalResult == nil || r.EvalResult.Type() != celtypes.StringType {
		return "", false
	}
	s, ok := r.EvalResult.Value().(string)
	return s, ok
}

var _ = []interface{ ReturnTypes() []*cel.Type }{&condition{}, &text{}, &nullableText{}, &Named{}}
