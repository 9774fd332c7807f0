// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	celtypes "github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"
)

// Claim is a compiled expression over the claims of a token ("claims") or over the user that they make ("user").
type Claim struct {
	compiled authenticationcel.CompilationResult
}

// ClaimValue compiles an expression over claims whose value is of any type.
func (c *Compiler) ClaimValue(expression string) (*Claim, error) {
	return claim(c.tokens().CompileClaimsExpression(&authenticationcel.ClaimMappingExpression{Expression: expression}))
}

// ClaimRule compiles an expression over claims that must be a bool.
func (c *Compiler) ClaimRule(expression string) (*Claim, error) {
	return claim(c.tokens().CompileClaimsExpression(&authenticationcel.ClaimValidationCondition{Expression: expression}))
}

// UserRule compiles an expression over a user that must be a bool.
func (c *Compiler) UserRule(expression string) (*Claim, error) {
	return claim(c.tokens().CompileUserExpression(&authenticationcel.UserValidationCondition{Expression: expression}))
}

func claim(compiled authenticationcel.CompilationResult, err error) (*Claim, error) {
	if err != nil {
		return nil, err
	}
	return &Claim{compiled}, nil
}

// Uses reports whether the expression reads a claim by its name, also as an optional one.
func (c *Claim) Uses(name string) bool {
	found := false
	ast.PostOrderVisit(c.compiled.AST.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		isClaims := func(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == "claims" }
		switch e.Kind() {
		case ast.SelectKind:
			found = found || e.AsSelect().FieldName() == name && isClaims(e.AsSelect().Operand())
		case ast.CallKind:
			call := e.AsCall()
			if call.IsMemberFunction() || call.FunctionName() != operators.OptSelect || len(call.Args()) != 2 || call.Args()[1].Kind() != ast.LiteralKind {
				return
			}
			found = found || isClaims(call.Args()[0]) && call.Args()[1].AsLiteral() == celtypes.String(name)
		default:
		}
	}))
	return found
}

// Values are what expressions over claims or users see.
type Values struct {
	name  string
	value *lazy.MapValue
}

// ClaimValues makes the claims of a token. Each is decoded when an expression first reads it.
func ClaimValues(claims map[string]json.RawMessage) *Values {
	value := lazy.NewMapValue(celtypes.NewObjectType("kubernetes.claims"))
	for name, raw := range claims {
		value.Append(name, func(*lazy.MapValue) ref.Val {
			var v any
			if err := json.Unmarshal(raw, &v); err != nil {
				return celtypes.NewErr("claim %q failed to unmarshal: %w", name, err)
			}
			return native(v)
		})
	}
	return &Values{name: "claims", value: value}
}

// UserValues makes the user of a request: username, uid, groups and extra.
func UserValues(name, uid string, groups []string, extra map[string][]string) *Values {
	value := lazy.NewMapValue(celtypes.NewObjectType("kubernetes.UserInfo"))
	for field, v := range map[string]any{"username": name, "uid": uid, "groups": groups, "extra": extra} {
		value.Append(field, func(*lazy.MapValue) ref.Val { return native(v) })
	}
	return &Values{name: "user", value: value}
}

// ResolveName implements the CEL library's activation.
func (v *Values) ResolveName(name string) (any, bool) { return v.value, name == v.name }

// Parent implements the CEL library's activation.
func (v *Values) Parent() cel.Activation { return nil }

func (c *Claim) eval(ctx context.Context, in *Values) (ref.Val, error) {
	out, _, err := c.compiled.Program.ContextEval(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("expression '%s' resulted in error: %w", c.compiled.ExpressionAccessor.GetExpression(), err)
	}
	return out, nil
}

// Text evaluates an expression that must give a string.
func (c *Claim) Text(ctx context.Context, in *Values) (string, error) {
	out, err := c.eval(ctx, in)
	if err != nil {
		return "", err
	}
	s, ok := out.(celtypes.String)
	if !ok {
		return "", errors.New("expression must return a string")
	}
	return string(s), nil
}

var errTexts = errors.New("expression must return a string or a list of strings")

// Texts evaluates an expression that must give a string, a list of strings or null. Empty strings are left out.
func (c *Claim) Texts(ctx context.Context, in *Values) ([]string, error) {
	out, err := c.eval(ctx, in)
	if err != nil {
		return nil, err
	}
	var list []string
	add := func(v ref.Val) error {
		s, ok := v.(celtypes.String)
		if !ok {
			return errTexts
		}
		if s != "" {
			list = append(list, string(s))
		}
		return nil
	}
	switch v := out.(type) {
	case celtypes.Null:
		return nil, nil
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == celtypes.True; {
			if err := add(it.Next()); err != nil {
				return nil, err
			}
		}
		return list, nil
	default:
		return list, add(out)
	}
}

// Holds evaluates an expression that must give a bool.
func (c *Claim) Holds(ctx context.Context, in *Values) (bool, error) {
	out, err := c.eval(ctx, in)
	if err != nil {
		return false, err
	}
	b, ok := out.(celtypes.Bool)
	if !ok {
		return false, errors.New("validation expression must return a boolean")
	}
	return bool(b), nil
}

// native makes a CEL value of a Go value in which names that CEL can't spell are found by their escaped form, at any depth: claims are
// whatever JSON an issuer writes.
func native(v any) ref.Val { return unescaped(celtypes.DefaultTypeAdapter.NativeToValue(v)) }

func unescaped(v ref.Val) ref.Val {
	switch v := v.(type) {
	case traits.Mapper:
		return &unescapedMap{v}
	case traits.Lister:
		return &unescapedList{v}
	default:
		return v
	}
}

type unescapedMap struct{ traits.Mapper }

// Find implements the CEL library's Mapper.
func (m *unescapedMap) Find(key ref.Val) (ref.Val, bool) {
	if name, ok := key.(celtypes.String); ok {
		if plain, ok := apiservercel.Unescape(string(name)); ok {
			key = celtypes.String(plain)
		}
	}
	v, found := m.Mapper.Find(key)
	return unescaped(v), found
}

type unescapedList struct{ traits.Lister }

// Get implements the CEL library's Lister.
func (l *unescapedList) Get(index ref.Val) ref.Val { return unescaped(l.Lister.Get(index)) }
