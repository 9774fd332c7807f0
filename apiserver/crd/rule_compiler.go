// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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
	// envs are by the type of oldSelf, which is either that of self or optional; mostEnvs at most.
	envs map[string]*cel.Env
	// known is by all that the types of schemas consist of, as describe writes it.
	known map[[sha256.Size]byte]*verdicts
}

// mostEnvs is enough for self to be an object, a text, a number, and lists of them. Lists in lists can be of as many types as somebody cares to write down.
const mostEnvs = 16

// nodeTypes are the types of one schema, to which a CEL environment can hold on while they are replaced by those of the next.
type nodeTypes struct{ *apiservercel.DeclTypeProvider }

var _ types.Provider = (*nodeTypes)(nil)

// verdicts are those on the rules of all schemas of one type. The type itself is not kept: it has all the types in it, and so in turn have they.
type verdicts struct {
	// cardinality is how many values of the type fit into a request.
	cardinality uint64
	on          map[ruleText]verdict
}

// selfType is what self is in the rules of a schema.
type selfType struct {
	// named is the type with names for the objects in it, which types know.
	named *apiservercel.DeclType
	types *apiservercel.DeclTypeProvider
	sizes *library.CostEstimator
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
		known:    map[[sha256.Size]byte]*verdicts{},
	}
}

// compile returns a verdict for each of the rules of a schema. Root is set for the schema of a whole object.
func (c *compiler) compile(s *structuralschema.Structural, root bool) ([]verdict, error) {
	decl := model.SchemaDeclType(s, root)
	if decl == nil {
		return nil, errors.New("failed to convert to declType for CEL validation rules")
	}
	known, out := c.verdictsOf(decl), make([]verdict, len(s.XValidations))
	var self *selfType
	for i, rule := range s.XValidations {
		text := ruleText{rule.Rule, rule.MessageExpression, rule.OptionalOldSelf != nil && *rule.OptionalOldSelf}
		if strings.TrimSpace(text.rule) == "" {
			continue // found by validation
		}
		v, ok := known.on[text]
		if !ok {
			if self == nil {
				var err error
				if self, err = c.selfType(decl); err != nil {
					return nil, err
				}
				c.types.DeclTypeProvider = self.types
			}
			env, err := c.env(self.named.CelType(), text.optionalOldSelf)
			if err != nil {
				return nil, err
			}
			v = judge(text, env, self.sizes)
			known.on[text] = v
		}
		if v.err == nil {
			v.cardinality = known.cardinality
		}
		out[i] = v
	}
	return out, nil
}

// verdictsOf returns the verdicts on rules of a type, to be added to.
func (c *compiler) verdictsOf(decl *apiservercel.DeclType) *verdicts {
	sum := sha256.New()
	describe(sum, decl)
	key := [sha256.Size]byte(sum.Sum(nil))
	known := c.known[key]
	if known == nil {
		most := celconfig.MaxRequestSizeBytes / (decl.MinSerializedSize + 1) // a comma at least is between two
		known = &verdicts{cardinality: uint64(most), on: map[ruleText]verdict{}}
		c.known[key] = known
	}
	return known
}

func (c *compiler) selfType(decl *apiservercel.DeclType) (*selfType, error) {
	named := decl.MaybeAssignTypeName(c.selfName)
	provider := apiservercel.NewDeclTypeProvider(named)
	provider.SetRecognizeKeywordAsFieldName(true) // all versions that we are compatible with do
	provider, err := provider.WithTypeProvider(c.base.CELTypeProvider())
	if err != nil {
		return nil, err
	}
	return &selfType{named: named, types: provider, sizes: &library.CostEstimator{SizeEstimator: sizeEstimator{decl}}}, nil
}

// describe writes all of a type that compiling looks at.
func describe(to io.Writer, t *apiservercel.DeclType) {
	fmt.Fprintf(to, "%s %d %d", t.CelType(), t.MaxElements, t.MinSerializedSize)
	for _, part := range []*apiservercel.DeclType{t.KeyType, t.ElemType} {
		if part != nil {
			fmt.Fprint(to, "(")
			describe(to, part)
			fmt.Fprint(to, ")")
		}
	}
	if t.Fields == nil {
		return
	}
	fmt.Fprint(to, "{")
	for _, name := range slices.Sorted(maps.Keys(t.Fields)) {
		fmt.Fprint(to, name, " ")
		describe(to, t.Fields[name].Type)
		fmt.Fprint(to, ",")
	}
	fmt.Fprint(to, "}")
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
	if len(c.envs) == mostEnvs {
		clear(c.envs)
	}
	c.envs[name] = env
	return env, nil
}

// expression is what a rule consists of: what it must result in, and what is said of one that is not right.
type expression struct {
	result                                    *cel.Type
	uncompiled, mistyped, unplanned, unpriced string
}

var (
	ruleItself = expression{
		result: cel.BoolType, uncompiled: "compilation failed: ", mistyped: "cel expression must evaluate to a bool",
		unplanned: "program instantiation failed: ", unpriced: "cost estimation failed: ",
	}
	ruleMessage = expression{
		result: cel.StringType, uncompiled: "messageExpression compilation failed: ", mistyped: "messageExpression must evaluate to a string",
		unplanned: "messageExpression instantiation failed: ", unpriced: "cost estimation failed for messageExpression: ",
	}
)

// judge compiles the expression of a text and tells what one run costs at most. What was compiled is nil where that failed.
func (e expression) judge(text string, env *cel.Env, sizes *library.CostEstimator) (checked *cel.Ast, cost uint64, err error) {
	checked, issues := env.Compile(text)
	switch {
	case issues != nil:
		return nil, 0, errors.New(e.uncompiled + issues.String())
	case checked.OutputType() != e.result:
		return nil, 0, errors.New(e.mistyped)
	}
	if err := plan(checked, env, sizes); err != nil {
		return checked, 0, fmt.Errorf("%s%w", e.unplanned, err)
	}
	estimate, err := env.EstimateCost(checked, sizes)
	if err != nil {
		return checked, 0, fmt.Errorf("%s%w", e.unpriced, err)
	}
	return checked, estimate.Max, nil
}

func judge(text ruleText, env *cel.Env, sizes *library.CostEstimator) (out verdict) {
	var checked *cel.Ast
	checked, out.cost, out.err = ruleItself.judge(text.rule, env, sizes)
	if checked != nil {
		for _, ref := range checked.NativeRep().ReferenceMap() {
			out.usesOldSelf = out.usesOldSelf || ref.Name == schemacel.OldScopedVarName
		}
	}
	if out.err == nil && text.message != "" {
		_, out.messageCost, out.messageErr = ruleMessage.judge(text.message, env, sizes)
	}
	return out
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
