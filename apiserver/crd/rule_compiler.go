// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
)

// verdict is what compiling a rule found.
type verdict struct {
	// err is why the rule can't be; the rest then is not set, but for usesOldSelf. messageErr is why its messageExpression can't be.
	err, messageErr error
	usesOldSelf     bool
	// cost and messageCost are what one run takes at most.
	cost, messageCost uint64
	// cardinality is how many values of the schema fit into a request.
	cardinality uint64
}

// compiler judges the rules of a definition as schemacel.Compile would, at a fraction of the price: it makes no programs, which are not run here, no environment
// for each schema, and asks once for what is the same in several versions, or at several places of one. Not safe for concurrent use.
type compiler struct {
	base *cel.Env
	// selfName is what the type of self is called where it is an object. Rules can't rely on it: each definition has another.
	selfName string
	// types are those of the schema whose rules are being compiled: all environments look into it.
	types *nodeTypes
	// envs are by the type of oldSelf, which is either that of self or optional.
	envs map[string]*cel.Env
	// known is by all that the types of schemas consist of, as describe writes it.
	known map[string]*selfType
}

// nodeTypes are the types of one schema, to which a CEL environment can hold on while they are replaced by those of the next.
type nodeTypes struct{ *apiservercel.DeclTypeProvider }

var _ types.Provider = (*nodeTypes)(nil)

// selfType is what self is in the rules of schemas of one type.
type selfType struct {
	// named is the type with names for the objects in it, which types know.
	named *apiservercel.DeclType
	types *apiservercel.DeclTypeProvider
	sizes *library.CostEstimator
	// cardinality is how many values of the type fit into a request.
	cardinality uint64
	verdicts    map[ruleText]verdict
}

// ruleText is what of a rule is compiled.
type ruleText struct {
	rule, message   string
	optionalOldSelf bool
}

func newCompiler() *compiler {
	return &compiler{
		base:     environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).NewExpressionsEnv(),
		selfName: fmt.Sprintf("selfType%d", time.Now().Nanosecond()),
		types:    &nodeTypes{},
		envs:     map[string]*cel.Env{},
		known:    map[string]*selfType{},
	}
}

// compile returns a verdict for each of the rules of a schema. Root is set for the schema of a whole object.
func (c *compiler) compile(s *structuralschema.Structural, root bool) ([]verdict, error) {
	self, err := c.selfType(s, root)
	if err != nil {
		return nil, err
	}
	c.types.DeclTypeProvider = self.types
	out := make([]verdict, len(s.XValidations))
	for i, rule := range s.XValidations {
		text := ruleText{rule.Rule, rule.MessageExpression, rule.OptionalOldSelf != nil && *rule.OptionalOldSelf}
		if strings.TrimSpace(text.rule) == "" {
			continue // found by validation
		}
		v, ok := self.verdicts[text]
		if !ok {
			env, err := c.env(self.named.CelType(), text.optionalOldSelf)
			if err != nil {
				return nil, err
			}
			v = judge(text, env, self)
			self.verdicts[text] = v
		}
		out[i] = v
	}
	return out, nil
}

func (c *compiler) selfType(s *structuralschema.Structural, root bool) (*selfType, error) {
	decl := model.SchemaDeclType(s, root)
	if decl == nil {
		return nil, errors.New("failed to convert to declType for CEL validation rules")
	}
	key := string(describe(nil, decl))
	if self := c.known[key]; self != nil {
		return self, nil
	}
	named := decl.MaybeAssignTypeName(c.selfName)
	provider := apiservercel.NewDeclTypeProvider(named)
	provider.SetRecognizeKeywordAsFieldName(true) // all versions that we are compatible with do
	provider, err := provider.WithTypeProvider(c.base.CELTypeProvider())
	if err != nil {
		return nil, err
	}
	self := &selfType{
		named: named, types: provider, sizes: &library.CostEstimator{SizeEstimator: sizeEstimator{decl}},
		cardinality: uint64(celconfig.MaxRequestSizeBytes / (decl.MinSerializedSize + 1)), // a comma at least is between two
		verdicts:    map[ruleText]verdict{},
	}
	c.known[key] = self
	return self, nil
}

// describe appends all of a type that compiling looks at.
func describe(to []byte, t *apiservercel.DeclType) []byte {
	to = fmt.Appendf(to, "%s %d %d", t.CelType(), t.MaxElements, t.MinSerializedSize)
	for _, part := range []*apiservercel.DeclType{t.KeyType, t.ElemType} {
		if part != nil {
			to = append(describe(append(to, '('), part), ')')
		}
	}
	if t.Fields == nil {
		return to
	}
	to = append(to, '{')
	for _, name := range slices.Sorted(maps.Keys(t.Fields)) {
		to = append(describe(append(append(to, name...), ' '), t.Fields[name].Type), ',')
	}
	return append(to, '}')
}

func (c *compiler) env(self *cel.Type, optionalOldSelf bool) (*cel.Env, error) {
	old := self
	if optionalOldSelf {
		old = cel.OptionalType(self)
	}
	name := old.String()
	if env := c.envs[name]; env != nil {
		return env, nil
	}
	env, err := c.base.Extend(cel.Variable(schemacel.ScopedVarName, self), cel.Variable(schemacel.OldScopedVarName, old), cel.CustomTypeProvider(c.types), cel.CustomTypeAdapter(c.types))
	if err != nil {
		return nil, err
	}
	c.envs[name] = env
	return env, nil
}

func judge(text ruleText, env *cel.Env, self *selfType) verdict {
	var out verdict
	checked, issues := env.Compile(text.rule)
	switch {
	case issues != nil:
		out.err = errors.New("compilation failed: " + issues.String())
		return out
	case checked.OutputType() != cel.BoolType:
		out.err = errors.New("cel expression must evaluate to a bool")
		return out
	}
	for _, ref := range checked.NativeRep().ReferenceMap() {
		out.usesOldSelf = out.usesOldSelf || ref.Name == schemacel.OldScopedVarName
	}
	if err := plan(checked, env, self.sizes); err != nil {
		out.err = fmt.Errorf("program instantiation failed: %w", err)
		return out
	}
	cost, err := env.EstimateCost(checked, self.sizes)
	if err != nil {
		out.err = fmt.Errorf("cost estimation failed: %w", err)
		return out
	}
	out.cost, out.cardinality = cost.Max, self.cardinality
	if text.message != "" {
		out.messageCost, out.messageErr = judgeMessage(text.message, env, self.sizes)
	}
	return out
}

func judgeMessage(expression string, env *cel.Env, sizes *library.CostEstimator) (uint64, error) {
	checked, issues := env.Compile(expression)
	switch {
	case issues != nil:
		return 0, errors.New("messageExpression compilation failed: " + issues.String())
	case checked.OutputType() != cel.StringType:
		return 0, errors.New("messageExpression must evaluate to a string")
	}
	if err := plan(checked, env, sizes); err != nil {
		return 0, fmt.Errorf("messageExpression instantiation failed: %w", err)
	}
	cost, err := env.EstimateCost(checked, sizes)
	if err != nil {
		return 0, fmt.Errorf("cost estimation failed for messageExpression: %w", err)
	}
	return cost.Max, nil
}

// plan makes a program of an expression, if that may find what type checking does not, and forgets it.
func plan(checked *cel.Ast, env *cel.Env, sizes *library.CostEstimator) error {
	if !mayFailToPlan(checked.NativeRep()) {
		return nil
	}
	_, err := env.Program(checked, cel.CostLimit(celconfig.PerCallLimit), cel.CostTracking(sizes), cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	return err
}

// mayFailToPlan tells whether making a program of a checked expression may fail. Where it folds constants it may: conversions of them are run and patterns are
// compiled. Besides, not all names of types and constant indices that pass the check have a meaning at run time. True says no more than that it is to be tried.
func mayFailToPlan(a *ast.AST) bool {
	may := false
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind, ast.SelectKind:
			ref := a.ReferenceMap()[e.ID()]
			may = may || ref != nil && (ref.Value != nil || a.GetType(e.ID()).Kind() == types.TypeKind)
		case ast.MapKind:
			may = may || len(e.AsMap().Entries()) > 0 // keys of some types can't be hashed
		case ast.CallKind:
			may = may || callMayFail(e.AsCall())
		case ast.StructKind, ast.UnspecifiedExprKind:
			may = true
		case ast.ComprehensionKind, ast.ListKind, ast.LiteralKind:
		}
	}))
	return may
}

func callMayFail(call ast.CallExpr) bool {
	args := call.Args()
	switch name := call.FunctionName(); {
	case name == overloads.TypeConvertDuration || name == overloads.TypeConvertTimestamp || name == overloads.Matches && call.IsMemberFunction():
		return slices.ContainsFunc(args, func(e ast.Expr) bool { return e.Kind() != ast.LiteralKind && mayFold(e) }) // literals are validated with the check
	case overloads.IsTypeConversionFunction(name) || name == overloads.Matches || name == "find" || name == "findAll":
		return slices.ContainsFunc(args, mayFold)
	case name == operators.Index || name == operators.OptIndex || name == operators.OptSelect:
		if args[1].Kind() == ast.LiteralKind {
			switch args[1].AsLiteral().(type) {
			case types.Bool, types.Double, types.Int, types.String, types.Uint:
				return false
			}
		}
		return mayFold(args[1])
	}
	return false
}

// mayFold tells whether an expression may become a constant when a program is made of it. A name of one is not asked about: its expression is tried anyway.
func mayFold(e ast.Expr) bool {
	switch e.Kind() {
	case ast.LiteralKind, ast.ListKind, ast.MapKind:
		return true
	case ast.CallKind:
		name := e.AsCall().FunctionName()
		return name == operators.In || overloads.IsTypeConversionFunction(name) // nothing is in an empty list
	case ast.ComprehensionKind, ast.IdentKind, ast.SelectKind, ast.StructKind, ast.UnspecifiedExprKind:
	}
	return false
}

// sizeEstimator knows how long the strings, lists and maps below self can be.
type sizeEstimator struct{ self *apiservercel.DeclType }

// EstimateSize follows the path of a value, whose first step is self.
func (s sizeEstimator) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	path := element.Path()
	if len(path) == 0 {
		return nil
	}
	at := s.self
	for _, step := range path[1:] {
		switch step {
		case "@items", "@values":
			at = at.ElemType
		case "@keys":
			at = at.KeyType
		default:
			if field := at.Fields[step]; field != nil {
				at = field.Type
			} else {
				at = nil
			}
		}
		if at == nil {
			return nil
		}
	}
	return &checker.SizeEstimate{Max: uint64(at.MaxElements)}
}

// EstimateCallCost leaves the cost of functions to the libraries that they are from.
func (sizeEstimator) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
