// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/request"
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
}

// SubjectAccessReview answers what any user may do.
func (v *Reviews) SubjectAccessReview(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*authorizationv1.SubjectAccessReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SubjectAccessReview: %#v", obj))
	}
	if errs := validateSpec(&in.Spec); len(errs) > 0 {
		return nil, apierrors.NewInvalid(gk("SubjectAccessReview"), "", errs)
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
	errs := validateSpec(&in.Spec)
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
		return nil, apierrors.NewInvalid(gk("LocalSubjectAccessReview"), "", errs)
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
	if errs := validateAttributes(in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes); len(errs) > 0 {
		return nil, apierrors.NewInvalid(gk("SelfSubjectAccessReview"), "", errs)
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
	out := in.DeepCopy()
	out.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	st := &out.Status
	var errs []error
	if slices.Contains(state.User.Groups, request.GroupMasters) {
		st.ResourceRules = append(st.ResourceRules, authorizationv1.ResourceRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}})
		st.NonResourceRules = append(st.NonResourceRules, authorizationv1.NonResourceRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	}
	if v.IsNode != nil && v.IsNode(&state.User) {
		st.Incomplete = true
		errs = append(errs, errors.New("node authorizer does not support user rule resolution"))
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
	var selectorErr error
	if res != nil {
		a.ResourceRequest = true
		a.Verb, a.APIGroup, a.APIVersion = res.Verb, res.Group, res.Version
		a.Resource, a.Subresource, a.Namespace, a.Name = res.Resource, res.Subresource, res.Namespace, res.Name
		a.FieldSelector, a.LabelSelector, selectorErr = selectors(res)
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	decision, reason, err := v.Authorizer.Authorize(ctx, &a)
	st := authorizationv1.SubjectAccessReviewStatus{Allowed: decision == Allow, Denied: decision == Deny, Reason: reason}
	if err := errors.Join(err, selectorErr); err != nil {
		st.EvaluationError = err.Error()
	}
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

func gk(kind string) schema.GroupKind {
	return schema.GroupKind{Group: authorizationv1.GroupName, Kind: kind}
}

func validateSpec(spec *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateAttributes(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec.user"), spec.User, "at least one of user or group must be specified"))
	}
	return errs
}

func validateAttributes(res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) field.ErrorList {
	var errs field.ErrorList
	switch {
	case res != nil && path != nil:
		errs = append(errs, field.Invalid(field.NewPath("spec.nonResourceAttributes"), path, "cannot be specified in combination with resourceAttributes"))
	case res == nil && path == nil:
		errs = append(errs, field.Invalid(field.NewPath("spec.resourceAttributes"), res, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if res == nil {
		return errs
	}
	base := field.NewPath("spec.resourceAttributes")
	if f := res.FieldSelector; f != nil {
		p := base.Child("fieldSelector")
		if f.RawSelector != "" && len(f.Requirements) > 0 {
			errs = append(errs, field.Invalid(p.Child("rawSelector"), f.RawSelector, "may not specified at the same time as requirements"))
		}
		if f.RawSelector == "" && len(f.Requirements) == 0 {
			errs = append(errs, field.Required(p.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", p)))
		}
	}
	if l := res.LabelSelector; l != nil {
		p := base.Child("labelSelector")
		if l.RawSelector != "" && len(l.Requirements) > 0 {
			errs = append(errs, field.Invalid(p.Child("rawSelector"), l.RawSelector, "may not specified at the same time as requirements"))
		}
		if l.RawSelector == "" && len(l.Requirements) == 0 {
			errs = append(errs, field.Required(p.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", p)))
		}
	}
	return errs
}

// selectors parses what parses; requirements that don't are left out, which never widens what is asked.
func selectors(res *authorizationv1.ResourceAttributes) (fields.Requirements, labels.Requirements, error) {
	var errs []error
	var fs fields.Requirements
	if f := res.FieldSelector; f != nil {
		if f.RawSelector != "" {
			s, err := fields.ParseSelector(f.RawSelector)
			if err != nil {
				errs = append(errs, err)
			} else {
				fs = s.Requirements()
			}
		}
		for _, r := range f.Requirements {
			req, err := fieldRequirement(r)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			fs = append(fs, req)
		}
	}
	var ls labels.Requirements
	if l := res.LabelSelector; l != nil {
		if l.RawSelector != "" {
			s, err := labels.Parse(l.RawSelector)
			if err != nil {
				errs = append(errs, err)
			} else {
				ls, _ = s.Requirements()
			}
		}
		for _, r := range l.Requirements {
			s, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}})
			if err != nil {
				errs = append(errs, err)
				continue
			}
			reqs, _ := s.Requirements()
			ls = append(ls, reqs...)
		}
	}
	return fs, ls, errors.Join(errs...)
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
