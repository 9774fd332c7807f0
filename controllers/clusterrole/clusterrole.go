// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package clusterrole fills aggregated ClusterRoles with the rules of the roles that their label selectors find.
package clusterrole

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
)

// New makes the loop; its keys are aggregated roles.
func New(scope reconcile.Scope) *reconcile.Loop {
	roles := client.InformerFor[*rbacv1.ClusterRole](scope.Informers)
	api := client.Of[*rbacv1.ClusterRole](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "clusterrole-aggregation-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			role, ok := roles.Get("", key.Name)
			if !ok || role.AggregationRule == nil {
				return nil
			}
			rules, err := gather(role, roles.List(""))
			if err != nil {
				return reconcile.Terminal(err)
			}
			if equal.Semantic(rules, role.Rules) {
				return nil
			}
			next := role.DeepCopy()
			next.Rules = rules
			_, err = api.Update(ctx, next)
			return client.IgnoreNotFound(err)
		},
	})
	// Any role may be a part of any aggregated one.
	reconcile.On(loop, roles, func(*rbacv1.ClusterRole) []reconcile.Key {
		var keys []reconcile.Key
		for role := range roles.All() {
			if role.AggregationRule != nil {
				keys = append(keys, reconcile.KeyOf(role))
			}
		}
		return keys
	})
	return loop
}

// gather joins the rules of all selected roles, in order of their names, each rule once.
func gather(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	slices.SortFunc(all, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("aggregation rule of %s: %w", role.Name, err)
		}
		for _, part := range all {
			if part.Name == role.Name || !selector.Matches(labels.Set(part.Labels)) {
				continue
			}
			for _, rule := range part.Rules {
				if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equal.Semantic(r, rule) }) {
					rules = append(rules, *rule.DeepCopy())
				}
			}
		}
	}
	return rules, nil
}
