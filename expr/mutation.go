// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/google/cel-go/cel"
	celtypes "github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/mutation"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"
)

// MutationSource is one mutation of a policy: an apply configuration, or a JSON patch.
type MutationSource struct {
	Expression string
	JSONPatch  bool
}

// ReturnTypes implements the CEL library's accessor.
func (m *MutationSource) ReturnTypes() []*cel.Type {
	if m.JSONPatch {
		return []*cel.Type{cel.ListType(celtypes.NewObjectType("JSONPatch"))}
	}
	return []*cel.Type{celtypes.NewObjectType("Object")}
}

// GetExpression implements the CEL library's accessor.
func (m *MutationSource) GetExpression() string { return m.Expression }

// Mutation is a compiled mutation.
type Mutation struct {
	source    MutationSource
	compiler  *plugincel.CompositedCompiler
	evaluator plugincel.MutatingEvaluator
}

// Mutations compiles the mutations of one policy, which share variables.
func (c *Compiler) Mutations(hasParams bool, variables []Named, sources []MutationSource) ([]*Mutation, error) {
	compiler, err := plugincel.NewCompositedCompiler(c.base())
	if err != nil {
		return nil, fmt.Errorf("prepare CEL environment: %w", err)
	}
	opts := plugincel.OptionalVariableDeclarations{HasParams: hasParams, HasAuthorizer: true}
	named := make([]plugincel.NamedExpressionAccessor, len(variables))
	for i := range variables {
		named[i] = &variables[i]
	}
	compiler.CompileAndStoreVariables(named, opts, environment.StoredExpressions)
	opts.HasPatchTypes = true
	var out []*Mutation
	for i := range sources {
		out = append(out, &Mutation{source: sources[i], compiler: compiler, evaluator: compiler.CompileMutatingEvaluator(&sources[i], opts, environment.StoredExpressions)})
	}
	return out, nil
}

// Change is what a mutation wants: one of the two is set.
type Change struct {
	// Apply is an apply configuration, without apiVersion and kind.
	Apply map[string]any
	// Patch is a JSON patch.
	Patch jsonpatch.Patch
}

// Eval evaluates the mutation for the object as it is now.
func (m *Mutation) Eval(ctx context.Context, in *Input) (Change, error) {
	if errs := m.evaluator.CompilationErrors(); len(errs) > 0 {
		return Change{}, errors.Join(errs...)
	}
	v := in.versioned()
	// Variables are evaluated anew for each mutation: the object may have changed since the one before.
	r, _, err := m.evaluator.ForInput(m.compiler.CreateContext(ctx), v, in.request(v), in.bindings(), in.NamespaceObject, celconfig.RuntimeCELCostBudget)
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return Change{}, err
	}
	if m.source.JSONPatch {
		list, ok := r.EvalResult.(traits.Lister)
		if !ok {
			return Change{}, fmt.Errorf("expression evaluates to %v, not to a list", r.EvalResult.Type())
		}
		patch, err := operations(list)
		return Change{Patch: patch}, err
	}
	obj, ok := r.EvalResult.(*dynamic.ObjectVal)
	if !ok {
		return Change{}, fmt.Errorf("expression evaluates to %v, not to an Object", r.EvalResult.Type())
	}
	if err := obj.CheckTypeNamesMatchFieldPathNames(); err != nil {
		return Change{}, fmt.Errorf("type mismatch: %w", err)
	}
	value, ok := obj.Value().(map[string]any)
	if !ok {
		return Change{}, fmt.Errorf("invalid return type: %T", obj.Value())
	}
	return Change{Apply: value}, nil
}

func operations(list traits.Lister) (jsonpatch.Patch, error) {
	out := jsonpatch.Patch{}
	for it := list.Iterator(); it.HasNext() == celtypes.True; {
		native, err := it.Next().ConvertToNative(reflect.TypeFor[*mutation.JSONPatchVal]())
		if err != nil {
			return nil, fmt.Errorf("element is no JSONPatch: %w", err)
		}
		op, ok := native.(*mutation.JSONPatchVal)
		if !ok {
			return nil, fmt.Errorf("element is a %T, not a JSONPatch", native)
		}
		entry := jsonpatch.Operation{"op": quoted(op.Op), "path": quoted(op.Path)}
		if op.From != "" {
			entry["from"] = quoted(op.From)
		}
		if op.Val != nil {
			if obj, ok := op.Val.(*dynamic.ObjectVal); ok {
				if err := obj.CheckTypeNamesMatchFieldPathNames(); err != nil {
					return nil, fmt.Errorf("type mismatch: %w", err)
				}
			}
			value, err := op.Val.ConvertToNative(reflect.TypeFor[*structpb.Value]())
			if err != nil {
				return nil, fmt.Errorf("value can't be written as JSON: %w", err)
			}
			data, err := json.Marshal(value)
			if err != nil {
				return nil, fmt.Errorf("value can't be written as JSON: %w", err)
			}
			entry["value"] = new(json.RawMessage(data))
		}
		out = append(out, entry)
	}
	return out, nil
}

func quoted(s string) *json.RawMessage { return new(json.RawMessage(strconv.Quote(s))) }
