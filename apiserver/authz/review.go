// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/internal/equal"
)

// Reviews serves the virtual resources of authorization.k8s.io. Their objects are not changed.
type Reviews struct {
	// Authorizer is the whole chain.
	Authorizer Authorizer
	// Rules lists what a user may do, for SelfSubjectRulesReview.
	Rules interface {
		RulesFor(ctx context.Context, user *request.User, namespace string) ([]rbacv1.PolicyRule, error)
	}
	// IsNode tells nodes, whose rights can't be listed. Optional.
	IsNode func(*request.User) bool
	// HasWebhooks tells whether webhooks are asked, whose rules can't be listed. Optional.
	HasWebhooks func() bool
}

// SubjectAccessReview answers what any user may do.
func (v *Reviews) SubjectAccessReview(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*authorizationv1.SubjectAccessReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SubjectAccessReview: %#v", obj))
	}
	if errs := append(validateSpec(&in.Spec), validateEmpty(in.ObjectMeta, "must be empty")...); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", errs)
	}
	out := in.DeepCopy()
	out.Status = v.answer(ctx, userOf(&in.Spec), in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
	return out, nil
}

// LocalSubjectAccessReview is SubjectAccessReview within the namespace of the request.
func (v *Reviews) LocalSubjectAccessReview(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*authorizationv1.LocalSubjectAccessReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a LocalSubjectAccessReview: %#v", obj))
	}
	bare := in.ObjectMeta
	bare.Namespace = ""
	errs := append(validateSpec(&in.Spec), validateEmpty(bare, "must be empty except for namespace")...)
	namespace := in.Namespace
	if s := request.From(ctx); s != nil && s.Info.Namespace != "" {
		namespace = s.Info.Namespace
	}
	if in.Spec.ResourceAttributes != nil && in.Spec.ResourceAttributes.Namespace != in.Namespace && in.Namespace != "" {
		errs = append(errs, field.Invalid(field.NewPath("spec.resourceAttributes.namespace"), in.Spec.ResourceAttributes.Namespace, "must match metadata.namespace"))
	}
	if in.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec.nonResourceAttributes"), in.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", errs)
	}
	if namespace == "" {
		return nil, apierrors.NewBadRequest("namespace is required on this type: " + namespace)
	}
	if in.Spec.ResourceAttributes.Namespace != namespace {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must match namespace: %v", namespace))
	}
	out := in.DeepCopy()
	out.Namespace = namespace
	out.Status = v.answer(ctx, userOf(&in.Spec), in.Spec.ResourceAttributes, nil)
	return out, nil
}

// SelfSubjectAccessReview answers what the asking user may do.
func (v *Reviews) SelfSubjectAccessReview(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*authorizationv1.SelfSubjectAccessReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SelfSubjectAccessReview: %#v", obj))
	}
	errs := validateCombination(in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
	errs = append(errs, validateResource(in.Spec.ResourceAttributes)...)
	if errs = append(errs, validateEmpty(in.ObjectMeta, "must be empty")...); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", errs)
	}
	state := request.From(ctx)
	if state == nil {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	out := in.DeepCopy()
	out.Status = v.answer(ctx, state.User, in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
	return out, nil
}

// SelfSubjectRulesReview lists what the asking user may do in a namespace.
func (v *Reviews) SelfSubjectRulesReview(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*authorizationv1.SelfSubjectRulesReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SelfSubjectRulesReview: %#v", obj))
	}
	state := request.From(ctx)
	if state == nil {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	if in.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	out := &authorizationv1.SelfSubjectRulesReview{}
	out.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	st := &out.Status
	var errs []error
	if v.IsNode != nil && v.IsNode(&state.User) {
		st.Incomplete = true
		errs = append(errs, errors.New("node authorizer does not support user rule resolution"))
	}
	if v.HasWebhooks != nil && v.HasWebhooks() {
		st.Incomplete = true
		errs = append(errs, errors.New("webhook authorizer does not support user rule resolution"))
	}
	list, err := v.Rules.RulesFor(ctx, &state.User, in.Spec.Namespace)
	if err != nil {
		errs = append(errs, err)
	}
	for _, r := range list {
		if len(r.Resources) > 0 {
			st.ResourceRules = append(st.ResourceRules, authorizationv1.ResourceRule{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames})
		}
		if len(r.NonResourceURLs) > 0 {
			st.NonResourceRules = append(st.NonResourceRules, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	if err := errors.Join(errs...); err != nil {
		st.EvaluationError = err.Error()
	}
	return out, nil
}

func (v *Reviews) answer(ctx context.Context, u request.User, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := Attributes{User: u}
	var broken []string
	if res != nil {
		a.ResourceRequest = true
		a.Verb, a.APIGroup, a.APIVersion = res.Verb, res.Group, res.Version
		a.Resource, a.Subresource, a.Namespace, a.Name = res.Resource, res.Subresource, res.Namespace, res.Name
		a.FieldSelector, a.LabelSelector, broken = selectors(res)
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	decision, reason, err := v.Authorizer.Authorize(ctx, &a)
	st := authorizationv1.SubjectAccessReviewStatus{Allowed: decision == Allow, Denied: decision == Deny, Reason: reason}
	if err != nil {
		broken = append([]string{err.Error()}, broken...)
	}
	st.EvaluationError = strings.Join(broken, "; ")
	return st
}

func userOf(spec *authorizationv1.SubjectAccessReviewSpec) request.User {
	u := request.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for k, v := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[k] = v
	}
	return u
}

func validateSpec(spec *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateCombination(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec.user"), spec.User, "at least one of user or group must be specified"))
	}
	return append(errs, validateResource(spec.ResourceAttributes)...)
}

// validateEmpty refuses metadata: a review has none but what the server records about its fields.
func validateEmpty(meta metav1.ObjectMeta, message string) field.ErrorList {
	shown := meta
	meta.ManagedFields = nil
	if equal.Semantic(metav1.ObjectMeta{}, meta) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), shown, message)}
}

// validateCombination wants a resource or a path, not both.
func validateCombination(res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) field.ErrorList {
	switch {
	case res != nil && path != nil:
		return field.ErrorList{field.Invalid(field.NewPath("spec.nonResourceAttributes"), path, "cannot be specified in combination with resourceAttributes")}
	case res == nil && path == nil:
		return field.ErrorList{field.Invalid(field.NewPath("spec.resourceAttributes"), path, "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	return nil
}

// validateResource judges the selectors of a resource, if there are any. Operators that nobody knows pass: they are evaluated as
// restrictions that are not there.
func validateResource(res *authorizationv1.ResourceAttributes) field.ErrorList {
	if res == nil {
		return nil
	}
	var errs field.ErrorList
	if f := res.FieldSelector; f != nil {
		path := field.NewPath("spec.resourceAttributes", "fieldSelector")
		errs = append(errs, validateSelector(path, f.RawSelector, len(f.Requirements))...)
		for i, r := range f.Requirements {
			errs = append(errs, metavalidation.ValidateFieldSelectorRequirement(r,
				metavalidation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, path.Child("requirements").Index(i))...)
		}
	}
	if l := res.LabelSelector; l != nil {
		path := field.NewPath("spec.resourceAttributes", "labelSelector")
		errs = append(errs, validateSelector(path, l.RawSelector, len(l.Requirements))...)
		for i, r := range l.Requirements {
			errs = append(errs, metavalidation.ValidateLabelSelectorRequirement(r,
				metavalidation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, path.Child("requirements").Index(i))...)
		}
	}
	return errs
}

func validateSelector(path *field.Path, raw string, requirements int) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(path.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(path.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", path))}
	}
	return nil
}

// selectors parses what parses; requirements that don't are left out, which never widens what is asked. broken says where that happened.
func selectors(res *authorizationv1.ResourceAttributes) (fs fields.Requirements, ls labels.Requirements, broken []string) {
	fs, whole := fieldRequirements(res.FieldSelector)
	if !whole {
		broken = append(broken, ignored("fieldSelector", len(fs)))
	}
	ls, whole = labelRequirements(res.LabelSelector)
	if !whole {
		broken = append(broken, ignored("labelSelector", len(ls)))
	}
	return fs, ls, broken
}

// fieldRequirements are those of a selector that parse; whole: all do.
func fieldRequirements(f *authorizationv1.FieldSelectorAttributes) (parsed fields.Requirements, whole bool) {
	if f == nil {
		return nil, true
	}
	whole = true
	if f.RawSelector != "" {
		if s, err := fields.ParseSelector(f.RawSelector); err == nil {
			parsed = s.Requirements()
		} else {
			whole = false
		}
	}
	for _, r := range f.Requirements {
		req, err := fieldRequirement(r)
		if err != nil {
			whole = false
			continue
		}
		parsed = append(parsed, req)
	}
	return parsed, whole
}

// labelRequirements are those of a selector that parse; whole: all do.
func labelRequirements(l *authorizationv1.LabelSelectorAttributes) (parsed labels.Requirements, whole bool) {
	if l == nil {
		return nil, true
	}
	whole = true
	if l.RawSelector != "" {
		if s, err := labels.Parse(l.RawSelector); err == nil {
			parsed, _ = s.Requirements()
		} else {
			whole = false
		}
	}
	for _, r := range l.Requirements {
		s, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}})
		if err != nil {
			whole = false
			continue
		}
		reqs, _ := s.Requirements()
		parsed = append(parsed, reqs...)
	}
	return parsed, whole
}

func ignored(selector string, kept int) string {
	part := ""
	if kept > 0 {
		part = "partially "
	}
	return "spec.resourceAttributes." + selector + " " + part + "ignored due to parse error"
}

func fieldRequirement(r metav1.FieldSelectorRequirement) (fields.Requirement, error) {
	switch {
	case r.Operator == metav1.FieldSelectorOpIn && len(r.Values) == 1:
		return fields.Requirement{Field: r.Key, Operator: selection.Equals, Value: r.Values[0]}, nil
	case r.Operator == metav1.FieldSelectorOpNotIn && len(r.Values) == 1:
		return fields.Requirement{Field: r.Key, Operator: selection.NotEquals, Value: r.Values[0]}, nil
	}
	return fields.Requirement{}, fmt.Errorf("fieldSelector requirement on %q with operator %q and %d values is not supported", r.Key, r.Operator, len(r.Values))
}
