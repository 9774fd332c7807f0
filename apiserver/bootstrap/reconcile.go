// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// parallel bounds how many writes of the start are under way at once: enough that they share the store's syncs.
const parallel = 16

// ensure creates obj, or, when it is there, lets merge say what it should look like; merge returns false to leave it alone.
// A conflict means that another API server starts at the same time: it is tried again with what is there now.
func ensure[T kinds.Object](ctx context.Context, r client.Resource[T], existing, obj T, found bool, merge func(existing, want T) (T, bool)) error {
	for {
		if !found {
			_, err := r.Create(ctx, obj)
			if err == nil {
				return nil
			}
			if !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("create %s %s: %w", r.GVR().Resource, obj.GetName(), err)
			}
			if existing, err = r.Get(ctx, obj.GetNamespace(), obj.GetName()); err != nil {
				return fmt.Errorf("get %s %s: %w", r.GVR().Resource, obj.GetName(), err)
			}
		}
		if merge == nil {
			return nil
		}
		next, change := merge(existing, obj)
		if !change {
			return nil
		}
		_, err := r.Update(ctx, next)
		switch {
		case err == nil:
			return nil
		case apierrors.IsConflict(err):
			if existing, err = r.Get(ctx, obj.GetNamespace(), obj.GetName()); err != nil {
				return fmt.Errorf("get %s %s: %w", r.GVR().Resource, obj.GetName(), err)
			}
			found = true
		default:
			return fmt.Errorf("update %s %s: %w", r.GVR().Resource, obj.GetName(), err)
		}
	}
}

// ensureOne looks first: an update that finds what it wants costs one read, and creating what is there may be refused for other
// reasons than its existence.
func ensureOne[T kinds.Object](ctx context.Context, r client.Resource[T], obj T, merge func(existing, want T) (T, bool)) error {
	existing, err := r.Get(ctx, obj.GetNamespace(), obj.GetName())
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("get %s %s: %w", r.GVR().Resource, obj.GetName(), err)
	}
	return ensure(ctx, r, existing, obj, err == nil, merge)
}

// ensureAll lists once and then ensures every object.
func ensureAll[T kinds.Object](ctx context.Context, c *client.Client, want []T, merge func(existing, want T) (T, bool)) error {
	if len(want) == 0 {
		return nil
	}
	r := client.Of[T](c)
	list, err := r.List(ctx, "", metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list %s: %w", r.GVR().Resource, err)
	}
	have := make(map[string]T, len(list.Items))
	for _, item := range list.Items {
		have[item.GetNamespace()+"/"+item.GetName()] = item
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, obj := range want {
		existing, found := have[obj.GetNamespace()+"/"+obj.GetName()]
		g.Go(func() error { return ensure(ctx, r, existing, obj, found, merge) })
	}
	return g.Wait()
}

// applyPolicy brings the policy into the cluster. Like upstream it only adds: rules, subjects, labels and annotations that
// somebody else added stay, and objects whose autoupdate annotation is not "true" are left alone.
func applyPolicy(ctx context.Context, c *client.Client, p Policy) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ensureAll(ctx, c, p.ClusterRoles, mergeClusterRole) })
	g.Go(func() error { return ensureAll(ctx, c, p.ClusterRoleBindings, mergeClusterRoleBinding) })
	g.Go(func() error { return ensureAll(ctx, c, p.Roles, mergeRole) })
	g.Go(func() error { return ensureAll(ctx, c, p.RoleBindings, mergeRoleBinding) })
	return g.Wait()
}

func protected(obj metav1.Object) bool { return obj.GetAnnotations()[autoUpdateAnnotation] == "false" }

func mergeClusterRole(old, want *rbacv1.ClusterRole) (*rbacv1.ClusterRole, bool) {
	if protected(old) {
		return nil, false
	}
	next := old.DeepCopy()
	changed := mergeMeta(next, want)
	if want.AggregationRule == nil {
		// The rules of aggregated roles belong to the aggregation controller.
		changed = mergeRules(&next.Rules, want.Rules) || changed
	} else {
		changed = mergeSelectors(next, want) || changed
	}
	return next, changed
}

func mergeSelectors(next, want *rbacv1.ClusterRole) bool {
	if next.AggregationRule == nil {
		next.AggregationRule = want.AggregationRule.DeepCopy()
		return true
	}
	changed := false
	for _, s := range want.AggregationRule.ClusterRoleSelectors {
		text := metav1.FormatLabelSelector(&s)
		if !slices.ContainsFunc(next.AggregationRule.ClusterRoleSelectors, func(h metav1.LabelSelector) bool { return metav1.FormatLabelSelector(&h) == text }) {
			next.AggregationRule.ClusterRoleSelectors = append(next.AggregationRule.ClusterRoleSelectors, s)
			changed = true
		}
	}
	return changed
}

func mergeRole(old, want *rbacv1.Role) (*rbacv1.Role, bool) {
	if protected(old) {
		return nil, false
	}
	next := old.DeepCopy()
	changed := mergeMeta(next, want)
	return next, mergeRules(&next.Rules, want.Rules) || changed
}

func mergeRules(have *[]rbacv1.PolicyRule, want []rbacv1.PolicyRule) bool {
	covered, missing := validation.Covers(*have, want)
	if !covered {
		*have = append(*have, missing...)
	}
	return !covered
}

func mergeClusterRoleBinding(old, want *rbacv1.ClusterRoleBinding) (*rbacv1.ClusterRoleBinding, bool) {
	if protected(old) || old.RoleRef != want.RoleRef {
		// A role reference can't be changed in place, and deleting what an administrator made is not ours to do.
		return nil, false
	}
	next := old.DeepCopy()
	changed := mergeMeta(next, want)
	return next, mergeSubjects(&next.Subjects, want.Subjects) || changed
}

func mergeRoleBinding(old, want *rbacv1.RoleBinding) (*rbacv1.RoleBinding, bool) {
	if protected(old) || old.RoleRef != want.RoleRef {
		return nil, false
	}
	next := old.DeepCopy()
	changed := mergeMeta(next, want)
	return next, mergeSubjects(&next.Subjects, want.Subjects) || changed
}

func mergeSubjects(have *[]rbacv1.Subject, want []rbacv1.Subject) bool {
	changed := false
	for _, s := range want {
		if !slices.Contains(*have, s) {
			*have = append(*have, s)
			changed = true
		}
	}
	return changed
}

func mergeMeta(next, want metav1.Object) bool {
	labels, changedLabels := mergeMap(next.GetLabels(), want.GetLabels())
	annotations, changedAnnotations := mergeMap(next.GetAnnotations(), want.GetAnnotations())
	if changedLabels {
		next.SetLabels(labels)
	}
	if changedAnnotations {
		next.SetAnnotations(annotations)
	}
	return changedLabels || changedAnnotations
}

// mergeMap adds what is missing; values that are there stay.
func mergeMap(have, want map[string]string) (map[string]string, bool) {
	out := maps.Clone(have)
	changed := false
	for k, v := range want {
		if _, ok := have[k]; ok {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k], changed = v, true
	}
	return out, changed
}
