// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package policy runs admission policies in CEL: those that validate and those that change objects.
package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/versions"
	"kogge.dev/kogge/apiserver/admission/webhook"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/kinds"
)

// Config of both plugins; all but Types are required.
type Config struct {
	Reader     admission.Reader
	Versions   *versions.Converter
	Authorizer authz.Authorizer
	Compiler   *expr.Compiler
	// Types gives the converter by which apply configurations are merged; without it such mutations fail.
	Types func(gvr schema.GroupVersionResource) (managedfields.TypeConverter, error)
}

// rules is what policies and bindings match by.
type rules struct {
	include, exclude  []admissionregistrationv1.NamedRuleWithOperations
	namespace, object labels.Selector
	equivalent        bool
	err               error
}

func newRules(m *admissionregistrationv1.MatchResources) *rules {
	if m == nil {
		return nil
	}
	r := &rules{include: m.ResourceRules, exclude: m.ExcludeResourceRules}
	r.equivalent = m.MatchPolicy == nil || *m.MatchPolicy == admissionregistrationv1.Equivalent
	r.namespace, r.object = labels.Everything(), labels.Everything()
	var err1, err2 error
	if m.NamespaceSelector != nil {
		r.namespace, err1 = metav1.LabelSelectorAsSelector(m.NamespaceSelector)
	}
	if m.ObjectSelector != nil {
		r.object, err2 = metav1.LabelSelectorAsSelector(m.ObjectSelector)
	}
	r.err = errors.Join(err1, err2)
	return r
}

// target is the address in whose terms a policy sees a request.
type target struct {
	resource schema.GroupVersionResource
	kind     schema.GroupVersionKind
}

// match returns the target, or false when the request is not meant. Without rules everything matches (bindings that only name namespaces).
func (c *Config) match(ctx context.Context, r *rules, a *admission.Attributes, needRules bool) (target, bool, error) {
	if r.err != nil {
		return target{}, false, r.err
	}
	ok, err := webhook.MatchNamespace(ctx, c.Reader, r.namespace, a)
	if err != nil || !ok || !webhook.MatchObject(r.object, a) {
		return target{}, false, err
	}
	if _, excluded := c.matchRules(r.exclude, r.equivalent, a); excluded {
		return target{}, false, nil
	}
	if len(r.include) == 0 && !needRules {
		return target{a.Resource, a.Kind}, true, nil
	}
	t, ok := c.matchRules(r.include, r.equivalent, a)
	return t, ok, nil
}

func (c *Config) matchRules(list []admissionregistrationv1.NamedRuleWithOperations, equivalent bool, a *admission.Attributes) (target, bool) {
	named := func(r *admissionregistrationv1.NamedRuleWithOperations) bool {
		if len(r.ResourceNames) == 0 {
			return true
		}
		name := a.Name
		if m := a.Meta(); name == "" && m != nil {
			name = m.GetName()
		}
		return slices.Contains(r.ResourceNames, name)
	}
	for i := range list {
		if named(&list[i]) && webhook.RuleMatches(&list[i].RuleWithOperations, a, a.Resource) {
			return target{a.Resource, a.Kind}, true
		}
	}
	if !equivalent {
		return target{}, false
	}
	for _, e := range c.Versions.Equivalents(a.Resource) {
		for i := range list {
			if named(&list[i]) && webhook.RuleMatches(&list[i].RuleWithOperations, a, e.Resource) {
				kind := e.Kind
				if a.Subresource != "" && a.Subresource != "status" {
					kind = a.Kind
				}
				return target{e.Resource, kind}, true
			}
		}
	}
	return target{}, false
}

// input converts the request for a target.
func (c *Config) input(ctx context.Context, a *admission.Attributes, t target) (*expr.Input, error) {
	object, err := c.Versions.ToVersion(a.Object, a.Resource.GroupResource(), t.kind)
	if err != nil {
		return nil, err
	}
	old, err := c.Versions.ToVersion(a.Old, a.Resource.GroupResource(), t.kind)
	if err != nil {
		return nil, err
	}
	in := &expr.Input{
		Operation: string(a.Operation), Resource: t.resource, Subresource: a.Subresource, Kind: t.kind, Namespace: a.Namespace, Name: a.Name,
		Object: object, Old: old, Options: a.Options, DryRun: a.DryRun,
		User:            expr.User{Name: a.User.Name, UID: a.User.UID, Groups: a.User.Groups, Extra: a.User.Extra},
		RequestResource: a.Resource, RequestKind: a.Kind, Authorizer: authz.Upstream(c.Authorizer),
	}
	if a.Namespace != "" && (a.Resource.Group != "" || a.Resource.Resource != "namespaces") {
		ns, found, err := admission.GetAny[*corev1.Namespace](ctx, c.Reader, schema.GroupResource{Resource: "namespaces"}, "", a.Namespace)
		if err != nil {
			return nil, err
		}
		if found {
			in.NamespaceObject = ns
		}
	}
	return in, nil
}

// paramKind tells what is wrong with the kind of a policy's parameters; nil is none.
func (c *Config) paramKind(kind *admissionregistrationv1.ParamKind) error {
	if kind == nil {
		return nil
	}
	_, _, err := c.lookup(kind)
	return err
}

func (c *Config) lookup(kind *admissionregistrationv1.ParamKind) (schema.GroupVersionKind, *kinds.Kind, error) {
	gvk := schema.FromAPIVersionAndKind(kind.APIVersion, kind.Kind)
	if c.Versions.ByKind != nil {
		if k := c.Versions.ByKind(gvk); k != nil {
			return gvk, k, nil
		}
	}
	return gvk, nil, fmt.Errorf("failed to find resource referenced by paramKind: '%v'", gvk)
}

var errNoParams = errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")

// params returns the parameter objects of a binding, each of which the policy is evaluated with; nil alone means "without". An empty
// list means that the binding does not apply.
func (c *Config) params(ctx context.Context, kind *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef, a *admission.Attributes) ([]runtime.Object, error) {
	if kind == nil || ref == nil {
		return []runtime.Object{nil}, nil
	}
	gvk, k, err := c.lookup(kind)
	if err != nil {
		return nil, err
	}
	namespace := ref.Namespace
	switch {
	case !k.Namespaced && namespace != "":
		return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	case k.Namespaced && namespace == "":
		if a.Namespace == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
		namespace = a.Namespace
	}
	found, err := c.findParams(ctx, k, namespace, ref)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		if ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
			return nil, errNoParams
		}
		return nil, nil
	}
	gr := schema.GroupResource{Group: gvk.Group, Resource: k.Resource}
	out := make([]runtime.Object, 0, len(found))
	for _, obj := range found {
		versioned, err := c.Versions.ToVersion(obj, gr, gvk)
		if err != nil {
			return nil, err
		}
		out = append(out, versioned)
	}
	return out, nil
}

func (c *Config) findParams(ctx context.Context, k *kinds.Kind, namespace string, ref *admissionregistrationv1.ParamRef) ([]kinds.Object, error) {
	gr := schema.GroupResource{Group: k.GroupKind().Group, Resource: k.Resource}
	switch {
	case ref.Name != "" && ref.Selector != nil:
		return nil, errors.New("paramRef.name and paramRef.selector are mutually exclusive")
	case ref.Name != "":
		obj, err := c.Reader.Get(ctx, gr, namespace, ref.Name)
		if err == nil && obj == nil {
			obj, err = c.Reader.GetFresh(ctx, gr, namespace, ref.Name)
		}
		if apierrors.IsNotFound(err) || err == nil && obj == nil {
			return nil, nil
		}
		return []kinds.Object{obj}, err
	case ref.Selector == nil:
		return nil, errors.New("one of name or selector must be provided")
	}
	sel, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return nil, err
	}
	items, err := c.Reader.List(ctx, gr, namespace)
	if err != nil {
		return nil, err
	}
	items = slices.DeleteFunc(slices.Clone(items), func(o kinds.Object) bool { return !sel.Matches(labels.Set(o.GetLabels())) })
	slices.SortFunc(items, func(x, y kinds.Object) int {
		return strings.Compare(x.GetNamespace()+"/"+x.GetName(), y.GetNamespace()+"/"+y.GetName())
	})
	return items, nil
}

// exempt: policies never judge policies, so that a broken one can be repaired, nor what is asked of the server about users and their rights, so that it can
// be served at all. They do judge webhooks.
func exempt(a *admission.Attributes) bool {
	switch a.Resource.Group {
	case admissionregistrationv1.GroupName:
		switch a.Resource.Resource {
		case "validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings":
			return true
		}
	case authenticationv1.GroupName:
		return a.Resource.Resource == "tokenreviews" || a.Resource.Resource == "selfsubjectreviews"
	case authorizationv1.GroupName:
		switch a.Resource.Resource {
		case "localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews":
			return true
		}
	}
	return false
}

func failOpen(p *admissionregistrationv1.FailurePolicyType) bool {
	return p != nil && *p == admissionregistrationv1.Ignore
}

// compiledOf is the form of the present policies and bindings in which they judge, made after each change of one.
func compiledOf[T any](c *Config, prefix string, compile func(policies, bindings []kinds.Object) T) *admission.Derived[T] {
	return admission.Derive(c.Reader, func(objects [][]kinds.Object) T { return compile(objects[0], objects[1]) },
		schema.GroupResource{Group: admissionregistrationv1.GroupName, Resource: prefix + "admissionpolicies"},
		schema.GroupResource{Group: admissionregistrationv1.GroupName, Resource: prefix + "admissionpolicybindings"},
	)
}
