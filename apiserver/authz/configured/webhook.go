// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package configured

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/cache"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/reviewhook"
	"kogge.dev/kogge/expr"
)

// Bounds of what is remembered of answers.
const (
	maxAnswers = 8192
	// maxRemembered bounds the size of what a user made up (namespace, name, path), in bytes.
	maxRemembered = 10_000
)

// webhook asks a server what a user may do.
type webhook struct {
	name       string
	server     *reviewhook.Server
	config     *apiserverv1.WebhookConfiguration
	conditions *expr.Access
	log        *slog.Logger
	metrics    *metrics
	// answers by the JSON of what was asked.
	answers *cache.LRUExpireCache
}

func newWebhook(dial reviewhook.Dialer, name string, config *apiserverv1.WebhookConfiguration, conditions *expr.Access, log *slog.Logger, m *metrics) (*webhook, error) {
	server, err := dial(*config.ConnectionInfo.KubeConfigFile, config.Timeout.Duration)
	if err != nil {
		return nil, err
	}
	return &webhook{
		name: name, server: server, config: config, conditions: conditions, log: log.With("authorizer", name), metrics: m,
		answers: cache.NewLRUExpireCache(maxAnswers),
	}, nil
}

var errBoth = errors.New("webhook subject access review returned both allow and deny response")

// Authorize implements authz.Authorizer.
func (w *webhook) Authorize(ctx context.Context, a *authz.Attributes) (authz.Decision, string, error) {
	r := &authorizationv1.SubjectAccessReview{Spec: specOf(a)}
	if w.conditions != nil && w.conditions.Len() > 0 {
		matches, err := w.conditions.Eval(ctx, r)
		if err != nil {
			w.metrics.conditionErrors.WithLabelValues(typeWebhook, w.name).Inc()
			return w.onError(), "", err
		}
		if !matches {
			w.metrics.exclusions.WithLabelValues(typeWebhook, w.name).Inc()
			return authz.NoOpinion, "", nil
		}
	}
	key, err := json.Marshal(r.Spec)
	if err != nil {
		return w.onError(), "", err
	}
	if known, ok := w.answers.Get(string(key)); ok {
		return decision(known.(*authorizationv1.SubjectAccessReviewStatus))
	}
	result := reviewhook.Failed
	status, err := w.ask(ctx, r, func(tried string, took time.Duration) {
		result = tried
		w.metrics.evaluations.WithLabelValues(w.name, tried).Inc()
		w.metrics.duration.WithLabelValues(w.name, tried).Observe(took.Seconds())
	})
	if err != nil {
		if ctx.Err() == nil {
			w.log.Error("authorization webhook is not asked", "err", err)
			if w.onError() == authz.NoOpinion {
				w.metrics.failOpen.WithLabelValues(w.name, result).Inc()
			}
		}
		return w.onError(), "", err
	}
	if ttl := w.ttl(status); ttl > 0 && sizeOf(a) < maxRemembered {
		w.answers.Add(string(key), status, ttl)
	}
	return decision(status)
}

func (w *webhook) onError() authz.Decision {
	if w.config.FailurePolicy == apiserverv1.FailurePolicyDeny {
		return authz.Deny
	}
	return authz.NoOpinion
}

// ttl is how long an answer is remembered; 0 means not at all.
func (w *webhook) ttl(status *authorizationv1.SubjectAccessReviewStatus) time.Duration {
	switch {
	case status.Allowed && *w.config.CacheAuthorizedRequests:
		return w.config.AuthorizedTTL.Duration
	case !status.Allowed && *w.config.CacheUnauthorizedRequests:
		return w.config.UnauthorizedTTL.Duration
	}
	return 0
}

func sizeOf(a *authz.Attributes) int {
	return len(a.Namespace) + len(a.Verb) + len(a.APIGroup) + len(a.APIVersion) + len(a.Resource) + len(a.Subresource) + len(a.Name) + len(a.Path)
}

func decision(status *authorizationv1.SubjectAccessReviewStatus) (authz.Decision, string, error) {
	switch {
	case status.Denied && status.Allowed:
		return authz.Deny, status.Reason, errBoth
	case status.Denied:
		return authz.Deny, status.Reason, nil
	case status.Allowed:
		return authz.Allow, status.Reason, nil
	}
	return authz.NoOpinion, status.Reason, nil
}

// ask posts the review in the version that the webhook speaks.
func (w *webhook) ask(ctx context.Context, r *authorizationv1.SubjectAccessReview, observe func(string, time.Duration)) (*authorizationv1.SubjectAccessReviewStatus, error) {
	if w.config.SubjectAccessReviewVersion == "v1" {
		r.TypeMeta = metav1.TypeMeta{APIVersion: authorizationv1.SchemeGroupVersion.String(), Kind: "SubjectAccessReview"}
		var out authorizationv1.SubjectAccessReview
		err := w.server.Ask(ctx, r, &out, observe)
		return &out.Status, err
	}
	old := authorizationv1beta1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authorizationv1beta1.SchemeGroupVersion.String(), Kind: "SubjectAccessReview"},
		Spec:     authorizationv1beta1.SubjectAccessReviewSpec{User: r.Spec.User, UID: r.Spec.UID, Groups: r.Spec.Groups},
	}
	for k, v := range r.Spec.Extra {
		if old.Spec.Extra == nil {
			old.Spec.Extra = map[string]authorizationv1beta1.ExtraValue{}
		}
		old.Spec.Extra[k] = authorizationv1beta1.ExtraValue(v)
	}
	if res := r.Spec.ResourceAttributes; res != nil {
		old.Spec.ResourceAttributes = &authorizationv1beta1.ResourceAttributes{
			Namespace: res.Namespace, Verb: res.Verb, Group: res.Group, Version: res.Version, Resource: res.Resource,
			Subresource: res.Subresource, Name: res.Name, FieldSelector: res.FieldSelector, LabelSelector: res.LabelSelector,
		}
	}
	if path := r.Spec.NonResourceAttributes; path != nil {
		old.Spec.NonResourceAttributes = &authorizationv1beta1.NonResourceAttributes{Path: path.Path, Verb: path.Verb}
	}
	var out authorizationv1beta1.SubjectAccessReview
	err := w.server.Ask(ctx, &old, &out, observe)
	return &authorizationv1.SubjectAccessReviewStatus{
		Allowed: out.Status.Allowed, Denied: out.Status.Denied, Reason: out.Status.Reason, EvaluationError: out.Status.EvaluationError,
	}, err
}

func specOf(a *authz.Attributes) authorizationv1.SubjectAccessReviewSpec {
	spec := authorizationv1.SubjectAccessReviewSpec{User: a.User.Name, UID: a.User.UID, Groups: a.User.Groups}
	for k, v := range a.User.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[k] = v
	}
	if !a.ResourceRequest {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb}
		return spec
	}
	spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
		Namespace: a.Namespace, Verb: a.Verb, Group: a.APIGroup, Version: a.APIVersion, Resource: a.Resource, Subresource: a.Subresource, Name: a.Name,
	}
	if list := fieldsOf(a.FieldSelector); len(list) > 0 {
		spec.ResourceAttributes.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: list}
	}
	if list := labelsOf(a.LabelSelector); len(list) > 0 {
		spec.ResourceAttributes.LabelSelector = &authorizationv1.LabelSelectorAttributes{Requirements: list}
	}
	return spec
}

// fieldsOf leaves out what the review can't say: requirements only narrow a request, so that it is asked for more then.
func fieldsOf(list fields.Requirements) []metav1.FieldSelectorRequirement {
	var out []metav1.FieldSelectorRequirement
	for _, r := range list {
		next := metav1.FieldSelectorRequirement{Key: r.Field, Values: []string{r.Value}}
		switch r.Operator {
		case selection.Equals, selection.DoubleEquals, selection.In:
			next.Operator = metav1.FieldSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			next.Operator = metav1.FieldSelectorOpNotIn
		default:
			continue
		}
		out = append(out, next)
	}
	return out
}

func labelsOf(list labels.Requirements) []metav1.LabelSelectorRequirement {
	var out []metav1.LabelSelectorRequirement
	for _, r := range list {
		next := metav1.LabelSelectorRequirement{Key: r.Key(), Values: slices.Sorted(slices.Values(r.ValuesUnsorted()))}
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			next.Operator = metav1.LabelSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			next.Operator = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			next.Operator = metav1.LabelSelectorOpExists
		case selection.DoesNotExist:
			next.Operator = metav1.LabelSelectorOpDoesNotExist
		default:
			continue
		}
		out = append(out, next)
	}
	return out
}
