// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package vapstatus notes in the status of ValidatingAdmissionPolicies that they have been seen. The API server compiles their
// expressions when they are written; warnings about the types of what they match are not computed.
package vapstatus

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	policies := client.InformerFor[*admissionregistrationv1.ValidatingAdmissionPolicy](scope.Informers)
	api := client.Of[*admissionregistrationv1.ValidatingAdmissionPolicy](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "validatingadmissionpolicy-status-controller", Log: scope.Log, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			policy, ok := policies.Get("", key.Name)
			if !ok || policy.Generation <= policy.Status.ObservedGeneration {
				return nil
			}
			next := policy.DeepCopy()
			next.Status.ObservedGeneration = policy.Generation
			next.Status.TypeChecking = &admissionregistrationv1.TypeChecking{}
			if _, err := api.UpdateStatus(ctx, next); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("status of policy %s: %w", key.Name, err)
			}
			return nil
		},
	})
	reconcile.Self(loop, policies)
	return loop
}
