// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package webhook asks admission webhooks: those that change objects one after another, those that validate all at once.
package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/versions"
	"kogge.dev/kogge/apiserver/aggregation/outcall"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/expr"
)

// Config of both plugins; all fields but Events are required.
type Config struct {
	Reader     admission.Reader
	Versions   *versions.Converter
	Calls      *outcall.Client
	Authorizer authz.Authorizer
	Compiler   *expr.Compiler
	// Events records what operators should hear of; it never blocks.
	Events func(about corev1.ObjectReference, kind, reason, format string, args ...any)
}

// hook is a webhook of either sort, with what is compiled once.
type hook struct {
	// key identifies the hook among all: configuration, name and position.
	key, configuration, name string
	uid                      types.UID // of the configuration
	mutating                 bool
	target                   outcall.Target
	rules                    []admissionregistrationv1.RuleWithOperations
	failOpen                 bool
	equivalent               bool
	reinvoke                 bool
	sideEffects              admissionregistrationv1.SideEffectClass
	timeout                  time.Duration
	reviewVersions           []string
	selectors                func() (namespace, object labels.Selector, err error)
	// match is nil without conditions.
	match func() *expr.Match
}

// call is a hook that a request goes to, with the version that the hook wants to see.
type call struct {
	*hook
	resource schema.GroupVersionResource
	kind     schema.GroupVersionKind
	record   record
}

// defaultTimeout holds where a configuration names none.
const defaultTimeout = 10 * time.Second

// mutatingHooks flattens configurations in the order of their names.
func (c *Config) mutatingHooks(list []*admissionregistrationv1.MutatingWebhookConfiguration) []*hook {
	slices.SortFunc(list, func(x, y *admissionregistrationv1.MutatingWebhookConfiguration) int {
		return strings.Compare(x.Name, y.Name)
	})
	var out []*hook
	for _, cfg := range list {
		for i := range cfg.Webhooks {
			w := &cfg.Webhooks[i]
			h := c.newHook(cfg, w.Name, i, w.ClientConfig, w.NamespaceSelector, w.ObjectSelector, w.MatchConditions)
			h.mutating, h.rules, h.reviewVersions = true, w.Rules, w.AdmissionReviewVersions
			h.set(w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds)
			h.reinvoke = w.ReinvocationPolicy != nil && *w.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy
			out = append(out, h)
		}
	}
	return out
}

func (c *Config) validatingHooks(list []*admissionregistrationv1.ValidatingWebhookConfiguration) []*hook {
	slices.SortFunc(list, func(x, y *admissionregistrationv1.ValidatingWebhookConfiguration) int {
		return strings.Compare(x.Name, y.Name)
	})
	var out []*hook
	for _, cfg := range list {
		for i := range cfg.Webhooks {
			w := &cfg.Webhooks[i]
			h := c.newHook(cfg, w.Name, i, w.ClientConfig, w.NamespaceSelector, w.ObjectSelector, w.MatchConditions)
			h.rules, h.reviewVersions = w.Rules, w.AdmissionReviewVersions
			h.set(w.FailurePolicy, w.MatchPolicy, w.SideEffects, w.TimeoutSeconds)
			out = append(out, h)
		}
	}
	return out
}

func (c *Config) newHook(configuration metav1.Object, name string, position int, cc admissionregistrationv1.WebhookClientConfig, ns, obj *metav1.LabelSelector, conditions []admissionregistrationv1.MatchCondition) *hook {
	h := &hook{
		key:           fmt.Sprintf("%s/%s/%d", configuration.GetName(), name, position),
		configuration: configuration.GetName(), uid: configuration.GetUID(), name: name,
		target: outcall.Target{URL: cc.URL, CABundle: cc.CABundle},
	}
	if s := cc.Service; s != nil {
		h.target.Namespace, h.target.Service, h.target.Port, h.target.Path = s.Namespace, s.Name, s.Port, s.Path
	}
	type pair struct{ namespace, object labels.Selector }
	selectors := sync.OnceValues(func() (pair, error) {
		n, err := metav1.LabelSelectorAsSelector(ns)
		if err != nil {
			return pair{}, err
		}
		o, err := metav1.LabelSelectorAsSelector(obj)
		return pair{n, o}, err
	})
	h.selectors = func() (labels.Selector, labels.Selector, error) {
		p, err := selectors()
		return p.namespace, p.object, err
	}
	if ns == nil && obj == nil {
		h.selectors = func() (labels.Selector, labels.Selector, error) {
			return labels.Everything(), labels.Everything(), nil
		}
	}
	if len(conditions) > 0 {
		h.match = sync.OnceValue(func() *expr.Match {
			named := make([]expr.Named, len(conditions))
			for i, m := range conditions {
				named[i] = expr.Named{Name: m.Name, Expression: m.Expression}
			}
			return c.Compiler.Match(named)
		})
	}
	return h
}

func (h *hook) set(failure *admissionregistrationv1.FailurePolicyType, match *admissionregistrationv1.MatchPolicyType, effects *admissionregistrationv1.SideEffectClass, seconds *int32) {
	h.failOpen = failure != nil && *failure == admissionregistrationv1.Ignore
	h.equivalent = match == nil || *match == admissionregistrationv1.Equivalent
	if effects != nil {
		h.sideEffects = *effects
	}
	h.timeout = defaultTimeout
	if seconds != nil {
		h.timeout = time.Duration(*seconds) * time.Second
	}
}

// exempt: webhooks and policies are not asked about themselves, so that a broken one can be repaired.
func exempt(a *admission.Attributes) bool {
	if a.Resource.Group != admissionregistrationv1.GroupName {
		return false
	}
	switch a.Resource.Resource {
	case "validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings",
		"mutatingadmissionpolicies", "mutatingadmissionpolicybindings":
		return true
	}
	return false
}

// wants decides whether the request goes to the hook: rules, then selectors; match conditions follow with the converted object.
func (c *Config) wants(ctx context.Context, h *hook, a *admission.Attributes) (*call, error) {
	namespaceSelector, objectSelector, err := h.selectors()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out := matchRules(c.Versions, h, a)
	if out == nil {
		return nil, nil // not for this hook
	}
	ok, err := MatchNamespace(ctx, c.Reader, namespaceSelector, a)
	if err != nil || !ok || !MatchObject(objectSelector, a) {
		return nil, err
	}
	return out, nil
}

func matchRules(v *versions.Converter, h *hook, a *admission.Attributes) *call {
	for i := range h.rules {
		if RuleMatches(&h.rules[i], a, a.Resource) {
			return &call{hook: h, resource: a.Resource, kind: a.Kind}
		}
	}
	if !h.equivalent {
		return nil
	}
	for _, e := range v.Equivalents(a.Resource) {
		for i := range h.rules {
			if !RuleMatches(&h.rules[i], a, e.Resource) {
				continue
			}
			kind := e.Kind
			if a.Subresource == "scale" || a.Subresource != "" && a.Subresource != "status" {
				// Subresources with a type of their own have it in every version of their parent.
				kind = a.Kind
			}
			return &call{hook: h, resource: e.Resource, kind: kind}
		}
	}
	return nil
}

// RuleMatches reports whether a rule means the request, taken at the given resource.
func RuleMatches(r *admissionregistrationv1.RuleWithOperations, a *admission.Attributes, gvr schema.GroupVersionResource) bool {
	if r.Scope != nil && *r.Scope != admissionregistrationv1.AllScopes {
		// A Namespace is cluster-scoped though requests about it carry a namespace.
		cluster := a.Namespace == "" || a.Resource.Group == "" && a.Resource.Resource == "namespaces"
		if cluster != (*r.Scope == admissionregistrationv1.ClusterScope) {
			return false
		}
	}
	return operationMatches(r.Operations, a.Operation) && has(r.APIGroups, gvr.Group) && has(r.APIVersions, gvr.Version) &&
		resourceMatches(r.Resources, gvr.Resource, a.Subresource)
}

func operationMatches(list []admissionregistrationv1.OperationType, op admission.Operation) bool {
	for _, o := range list {
		if o == admissionregistrationv1.OperationAll || string(o) == string(op) {
			return true
		}
	}
	return false
}

func has(list []string, item string) bool {
	for _, s := range list {
		if s == "*" || s == item {
			return true
		}
	}
	return false
}

// resourceMatches: "*" is all resources without subresources, "*/*" everything, "pods/*" all of a pod, "*/scale" one of each.
func resourceMatches(list []string, resource, subresource string) bool {
	for _, s := range list {
		base, sub, _ := strings.Cut(s, "/")
		if (base == "*" || base == resource) && (sub == "*" || sub == subresource) {
			return true
		}
	}
	return false
}

// MatchNamespace applies a namespace selector: to the request's namespace, or, for a Namespace, to the object itself. Other
// cluster-scoped objects always match.
func MatchNamespace(ctx context.Context, reader admission.Reader, sel labels.Selector, a *admission.Attributes) (bool, error) {
	if sel.Empty() {
		return true, nil
	}
	if a.Resource.Group == "" && a.Resource.Resource == "namespaces" {
		if a.Subresource == "" && (a.Operation == admission.Create || a.Operation == admission.Update) {
			if m := a.Meta(); m != nil {
				return sel.Matches(labels.Set(m.GetLabels())), nil
			}
		}
		ns, found, err := lookupNamespace(ctx, reader, a.Name)
		if err != nil || !found {
			return false, err
		}
		return sel.Matches(labels.Set(ns.Labels)), nil
	}
	if a.Namespace == "" {
		return true, nil
	}
	ns, found, err := lookupNamespace(ctx, reader, a.Namespace)
	switch {
	case err != nil:
		return false, apierrors.NewInternalError(err)
	case !found:
		return false, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, a.Namespace)
	}
	return sel.Matches(labels.Set(ns.Labels)), nil
}

func lookupNamespace(ctx context.Context, reader admission.Reader, name string) (*corev1.Namespace, bool, error) {
	return admission.GetAny[*corev1.Namespace](ctx, reader, schema.GroupResource{Resource: "namespaces"}, "", name)
}

// MatchObject applies an object selector to the new and the old object; either may match. Objects without metadata match only
// the empty selector.
func MatchObject(sel labels.Selector, a *admission.Attributes) bool {
	return sel.Empty() || labelled(a.Object, sel) || labelled(a.Old, sel)
}

func labelled(obj runtime.Object, sel labels.Selector) bool {
	if obj == nil {
		return false
	}
	m, err := meta.Accessor(obj)
	return err == nil && sel.Matches(labels.Set(m.GetLabels()))
}

// input is the request for match conditions.
func (c *Config) input(a *admission.Attributes, k *call, object, old runtime.Object) *expr.Input {
	return &expr.Input{
		Operation: string(a.Operation), Resource: k.resource, Subresource: a.Subresource, Kind: k.kind, Namespace: a.Namespace, Name: a.Name,
		Object: object, Old: old, Options: a.Options, DryRun: a.DryRun,
		User:            expr.User{Name: a.User.Name, UID: a.User.UID, Groups: a.User.Groups, Extra: a.User.Extra},
		RequestResource: a.Resource, RequestKind: a.Kind, Authorizer: authz.Upstream(c.Authorizer),
	}
}
