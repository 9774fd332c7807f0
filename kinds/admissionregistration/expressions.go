// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admissionregistration

import (
	"errors"
	"sync"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"kogge.dev/kogge/expr"
)

// expressions compiles the CEL of webhooks and policies, to refuse what can't be evaluated. The environment takes some
// milliseconds to make; it is made at first use.
type expressions struct {
	base func() *environment.EnvSet
	// compiler knows no variables, so all can share it.
	compiler func() plugincel.Compiler
}

func newExpressions() *expressions {
	base := sync.OnceValue(func() *environment.EnvSet {
		return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	})
	return &expressions{base: base, compiler: sync.OnceValue(func() plugincel.Compiler { return plugincel.NewCompiler(base()) })}
}

// source is one expression with what it may return.
type source struct {
	name, text string
	returns    []*cel.Type
}

func (s *source) GetName() string          { return s.name }
func (s *source) GetExpression() string    { return s.text }
func (s *source) ReturnTypes() []*cel.Type { return s.returns }

// scope is what the expressions of one object see.
type scope struct {
	compiler plugincel.Compiler
	// params is set where a policy has parameters.
	params bool
	// stored are the expressions of the object that is replaced: they may use what newer ones may not.
	stored map[string]bool
}

// plain returns the scope of expressions without variables.
func (e *expressions) plain(params bool, stored map[string]bool) scope {
	return scope{compiler: e.compiler(), params: params, stored: stored}
}

// withVariables returns the scope of a policy, whose variables the later expressions see. It reports an environment that can't
// be made as a finding of at.
func (e *expressions) withVariables(params bool, stored map[string]bool, at *field.Path) (scope, field.ErrorList) {
	compiler, err := plugincel.NewCompositedCompiler(e.base())
	if err != nil {
		return e.plain(params, stored), field.ErrorList{field.InternalError(at, err)}
	}
	return scope{compiler: compiler, params: params, stored: stored}, nil
}

func (s scope) mode(text string) environment.Type {
	if s.stored[text] {
		return environment.StoredExpressions
	}
	return environment.NewExpressions
}

// may says which optional parts of the environment an expression sees.
type may int

const (
	askAuthorizer may = 1 << iota
	makePatches
)

func (s scope) declarations(m may) plugincel.OptionalVariableDeclarations {
	return plugincel.OptionalVariableDeclarations{HasParams: s.params, HasAuthorizer: m&askAuthorizer != 0, HasPatchTypes: m&makePatches != 0}
}

// check compiles one expression.
func (s scope) check(text string, m may, at *field.Path, returns ...*cel.Type) field.ErrorList {
	result := s.compiler.CompileCELExpression(&source{text: text, returns: returns}, s.declarations(m), s.mode(text))
	return finding(result.Error, text, at)
}

// define compiles a variable and makes it known to the expressions that follow.
func (s scope) define(name, text string, at *field.Path) field.ErrorList {
	composited, ok := s.compiler.(*plugincel.CompositedCompiler)
	if !ok {
		return field.ErrorList{field.InternalError(at, errors.New("variable composition is not allowed"))}
	}
	variable := &source{name: name, text: text, returns: []*cel.Type{cel.AnyType, cel.DynType}}
	result := composited.CompileAndStoreVariable(variable, s.declarations(askAuthorizer), s.mode(text))
	return finding(result.Error, text, at)
}

func finding(err *apiservercel.Error, text string, at *field.Path) field.ErrorList {
	if err == nil {
		return nil
	}
	return field.ErrorList{expr.FieldError(at, text, err)}
}
