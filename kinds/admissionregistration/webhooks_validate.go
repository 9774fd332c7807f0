// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admissionregistration

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of a webhook's timeout, in seconds.
const (
	minTimeout = 1
	maxTimeout = 30
)

// reviewVersions are the versions of AdmissionReview that this server speaks.
func reviewVersions() []string { return []string{"v1", "v1beta1"} }

// hook is what both kinds of webhooks have in common.
type hook struct {
	*admissionregistrationv1.ValidatingWebhook

	reinvocation *admissionregistrationv1.ReinvocationPolicyType
}

func mutatingHooks(list []admissionregistrationv1.MutatingWebhook) []hook {
	out := make([]hook, len(list))
	for i := range list {
		w := &list[i]
		out[i] = hook{reinvocation: w.ReinvocationPolicy, ValidatingWebhook: &admissionregistrationv1.ValidatingWebhook{
			Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy,
			NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects,
			TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
		}}
	}
	return out
}

func validatingHooks(list []admissionregistrationv1.ValidatingWebhook) []hook {
	out := make([]hook, len(list))
	for i := range list {
		out[i] = hook{ValidatingWebhook: &list[i]}
	}
	return out
}

// leniency says which rules the stored webhooks break already, from times when they did not hold.
type leniency struct {
	sideEffects, versions, names, selectors, conditions bool

	compile func() scope
}

func (e *expressions) leniencyFor(new, old []hook) leniency {
	stored := map[string]bool{}
	l := e.strict(stored)
	seen := map[string]bool{}
	l.conditions = len(new) == len(old)
	for i, h := range old {
		l.sideEffects = l.sideEffects || h.SideEffects == nil || !slices.Contains(harmless(), *h.SideEffects)
		spoken := slices.ContainsFunc(h.AdmissionReviewVersions, func(v string) bool { return slices.Contains(reviewVersions(), v) })
		l.versions = l.versions || len(h.AdmissionReviewVersions) > 0 && !spoken
		l.names = l.names || seen[h.Name]
		seen[h.Name] = true
		l.selectors = l.selectors || check.HasInvalidValue(h.NamespaceSelector) || check.HasInvalidValue(h.ObjectSelector)
		for _, c := range h.MatchConditions {
			stored[c.Expression] = true
		}
		l.conditions = l.conditions && i < len(new) && reflect.DeepEqual(new[i].MatchConditions, h.MatchConditions)
	}
	return l
}

// harmless are the side effects that a webhook may have.
func harmless() []admissionregistrationv1.SideEffectClass {
	return []admissionregistrationv1.SideEffectClass{admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun}
}

// strict has no leniency but for stored expressions.
func (e *expressions) strict(stored map[string]bool) leniency {
	return leniency{compile: sync.OnceValue(func() scope { return e.plain(false, stored) })}
}

func (e *expressions) validateMutatingWebhooks(_ kinds.Request, c *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
	return e.strict(nil).hooks(mutatingHooks(c.Webhooks))
}

func (e *expressions) validateMutatingWebhooksUpdate(_ kinds.Request, new, old *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
	is := mutatingHooks(new.Webhooks)
	return e.leniencyFor(is, mutatingHooks(old.Webhooks)).hooks(is)
}

func (e *expressions) validateValidatingWebhooks(_ kinds.Request, c *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
	return e.strict(nil).hooks(validatingHooks(c.Webhooks))
}

func (e *expressions) validateValidatingWebhooksUpdate(_ kinds.Request, new, old *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
	is := validatingHooks(new.Webhooks)
	return e.leniencyFor(is, validatingHooks(old.Webhooks)).hooks(is)
}

func (l leniency) hooks(hooks []hook) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, h := range hooks {
		path := field.NewPath("webhooks").Index(i)
		errs = append(errs, l.hook(h, path)...)
		errs = append(errs, l.reviewVersions(h.AdmissionReviewVersions, path.Child("admissionReviewVersions"))...)
		if h.Name != "" && seen[h.Name] && !l.names {
			errs = append(errs, field.Duplicate(path.Child("name"), h.Name))
		}
		seen[h.Name] = true
	}
	return errs
}

func (l leniency) hook(h hook, path *field.Path) field.ErrorList {
	errs := utilvalidation.IsFullyQualifiedName(path.Child("name"), h.Name)
	for i := range h.Rules {
		errs = append(errs, validateRuleWithOperations(&h.Rules[i], path.Child("rules").Index(i))...)
	}
	errs = append(errs, optionalOneOf(h.FailurePolicy, path.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	errs = append(errs, optionalOneOf(h.MatchPolicy, path.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	errs = append(errs, l.effects(h.SideEffects, path.Child("sideEffects"))...)
	if s := h.TimeoutSeconds; s != nil && (*s < minTimeout || *s > maxTimeout) {
		errs = append(errs, field.Invalid(path.Child("timeoutSeconds"), *s, "the timeout value must be between 1 and 30 seconds"))
	}
	errs = append(errs, l.selector(h.NamespaceSelector, path.Child("namespaceSelector"))...)
	errs = append(errs, l.selector(h.ObjectSelector, path.Child("objectSelector"))...)
	errs = append(errs, optionalOneOf(h.reinvocation, path.Child("reinvocationPolicy"),
		admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
	errs = append(errs, validateClient(&h.ClientConfig, path.Child("clientConfig"))...)
	if !l.conditions {
		errs = append(errs, validateMatchConditions(h.MatchConditions, l.compile, path.Child("matchConditions"))...)
	}
	return errs
}

func (l leniency) effects(class *admissionregistrationv1.SideEffectClass, path *field.Path) field.ErrorList {
	allowed := harmless()
	if l.sideEffects {
		allowed = append(allowed, admissionregistrationv1.SideEffectClassSome, admissionregistrationv1.SideEffectClassUnknown)
	}
	if class != nil {
		return optionalOneOf(class, path, allowed...)
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	return field.ErrorList{field.Required(path, "must specify one of "+strings.Join(names, ", "))}
}

func (l leniency) selector(selector *metav1.LabelSelector, path *field.Path) field.ErrorList {
	if l.selectors {
		return check.LenientSelector(selector, selector, path)
	}
	return check.Selector(selector, path)
}

func (l leniency) reviewVersions(versions []string, path *field.Path) field.ErrorList {
	spoken := strings.Join(reviewVersions(), ", ")
	if len(versions) == 0 {
		return field.ErrorList{field.Required(path, "must specify one of "+spoken)}
	}
	var errs field.ErrorList
	accepted := false
	for i, v := range versions {
		if slices.Contains(versions[:i], v) {
			errs = append(errs, field.Invalid(path.Index(i), v, "duplicate version"))
			continue
		}
		errs = append(errs, check.Messages(path.Index(i), v, utilvalidation.IsDNS1035Label(v))...)
		accepted = accepted || slices.Contains(reviewVersions(), v)
	}
	if !accepted && !l.versions {
		errs = append(errs, field.Invalid(path, versions, "must include at least one of "+spoken))
	}
	return errs
}

func validateClient(c *admissionregistrationv1.WebhookClientConfig, path *field.Path) field.ErrorList {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		return field.ErrorList{field.Required(path, "exactly one of url or service is required")}
	case c.URL != nil:
		return check.WebhookURL(*c.URL, path.Child("url"))
	}
	// Clients have always been told of a missing name under namespace, and of a missing namespace under name.
	service := check.WebhookService{
		Namespace: c.Service.Name, Name: c.Service.Namespace, Path: c.Service.Path, Port: ptr.Deref(c.Service.Port, defaultPort),
	}
	return service.Validate(path.Child("service"))
}
