// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package expr compiles and evaluates the CEL expressions of admission (match conditions, validations, variables, messages and
// mutations), of authentication and of authorization. Language, libraries, types and cost limits are those of k8s.io/apiserver, so that an expression means here what it means
// in every cluster.
package expr

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	celtypes "github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/admission"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Input is one admission request, with its objects in the version that the expressions expect.
type Input struct {
	Operation       string
	Resource        schema.GroupVersionResource
	Subresource     string
	Kind            schema.GroupVersionKind
	Namespace, Name string
	Object, Old     runtime.Object
	Options         runtime.Object
	DryRun          bool
	User            User
	// RequestResource and RequestKind are the original request's, where the objects were converted.
	RequestResource schema.GroupVersionResource
	RequestKind     schema.GroupVersionKind
	// Authorizer answers the authorizer variable.
	Authorizer authorizer.Authorizer
	// NamespaceObject answers namespaceObject; nil for cluster-scoped objects.
	NamespaceObject *corev1.Namespace
	// Params answers params; nil is null.
	Params runtime.Object
}

// User is who asks.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

func (in *Input) versioned() *upstream.VersionedAttributes {
	who := &user.DefaultInfo{Name: in.User.Name, UID: in.User.UID, Groups: in.User.Groups, Extra: in.User.Extra}
	record := upstream.NewAttributesRecord(in.Object, in.Old, in.RequestKind, in.Namespace, in.Name, in.RequestResource, in.Subresource,
		upstream.Operation(in.Operation), in.Options, in.DryRun, who)
	return &upstream.VersionedAttributes{Attributes: record, VersionedObject: in.Object, VersionedOldObject: in.Old, VersionedKind: in.Kind}
}

func (in *Input) request(v *upstream.VersionedAttributes) *admissionv1.AdmissionRequest {
	return plugincel.CreateAdmissionRequest(v.Attributes, metav1.GroupVersionResource(in.Resource), metav1.GroupVersionKind(in.Kind))
}

func (in *Input) bindings() plugincel.OptionalVariableBindings {
	return plugincel.OptionalVariableBindings{VersionedParams: in.Params, Authorizer: in.Authorizer}
}

// Named is an expression with a name.
type Named struct{ Name, Expression string }

// GetExpression implements the CEL library's accessor.
func (n *Named) GetExpression() string { return n.Expression }

// GetName implements the CEL library's accessor.
func (n *Named) GetName() string { return n.Name }

// ReturnTypes implements the CEL library's accessor: variables may be anything.
func (n *Named) ReturnTypes() []*cel.Type { return []*cel.Type{cel.AnyType, cel.DynType} }

// condition is an expression that must be a bool.
type condition struct{ Named }

// ReturnTypes implements the CEL library's accessor.
func (c *condition) ReturnTypes() []*cel.Type { return []*cel.Type{cel.BoolType} }

// text is an expression that must be a string.
type text struct{ Named }

// ReturnTypes implements the CEL library's accessor.
func (t *text) ReturnTypes() []*cel.Type { return []*cel.Type{cel.StringType} }

// nullableText is an expression that must be a string or null.
type nullableText struct{ Named }

// ReturnTypes implements the CEL library's accessor.
func (t *nullableText) ReturnTypes() []*cel.Type {
	return []*cel.Type{cel.StringType, cel.NullType}
}

// Compiler compiles expressions. Its environment is made at first use (some milliseconds) and shared. It is safe for concurrent use.
type Compiler struct {
	base  func() *environment.EnvSet
	plain func() plugincel.ConditionCompiler
	// tokens compiles expressions over claims and users.
	tokens func() authenticationcel.Compiler
	// access compiles conditions over what somebody wants to do.
	access func() authorizationcel.Compiler
}

// NewCompiler makes a compiler.
func NewCompiler() *Compiler {
	base := sync.OnceValue(func() *environment.EnvSet {
		return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	})
	return &Compiler{
		base:   base,
		plain:  sync.OnceValue(func() plugincel.ConditionCompiler { return plugincel.NewConditionCompiler(base()) }),
		tokens: sync.OnceValue(func() authenticationcel.Compiler { return authenticationcel.NewCompiler(base()) }),
		access: sync.OnceValue(func() authorizationcel.Compiler { return authorizationcel.NewCompiler(base()) }),
	}
}

// Match is a list of compiled match conditions.
type Match struct {
	evaluator plugincel.ConditionEvaluator
}

// Match compiles match conditions. Errors of compilation come out of Eval, because stored objects may hold expressions of another
// version.
func (c *Compiler) Match(conditions []Named) *Match {
	list := make([]plugincel.ExpressionAccessor, len(conditions))
	for i := range conditions {
		list[i] = &condition{conditions[i]}
	}
	evaluator := c.plain().CompileCondition(list, plugincel.OptionalVariableDeclarations{HasAuthorizer: true}, environment.StoredExpressions)
	return &Match{evaluator: evaluator}
}

// Errors returns what is wrong with the expressions.
func (m *Match) Errors() []error { return m.evaluator.CompilationErrors() }

// Eval reports whether all conditions hold. One that is false decides, whatever else went wrong; failed is its name. Otherwise err holds
// what could not be evaluated, and the caller's failure policy decides.
func (m *Match) Eval(ctx context.Context, in *Input) (ok bool, failed string, err error) {
	v := in.versioned()
	results, _, err := m.evaluator.ForInput(ctx, v, in.request(v), in.bindings(), nil, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		return false, "", err
	}
	for _, r := range results {
		if r.Error != nil {
			if err == nil {
				err = r.Error
			} else {
				err = fmt.Errorf("%w, %w", err, r.Error)
			}
			continue
		}
		if r.EvalResult == celtypes.False {
			return false, r.ExpressionAccessor.(*condition).Name, nil
		}
	}
	return err == nil, "", err
}
