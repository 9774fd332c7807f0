// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package tokencleaner deletes bootstrap tokens that have expired.
package tokencleaner

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

const tokenType corev1.SecretType = "bootstrap.kubernetes.io/token"

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	tokens := client.InformerFor[*corev1.Secret](scope.Informers, client.Selection{
		Namespace: metav1.NamespaceSystem, FieldSelector: "type=" + string(tokenType),
	})
	api := client.Of[*corev1.Secret](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "token-cleaner-controller", Log: scope.Log, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			token, ok := tokens.Get(key.Namespace, key.Name)
			if !ok || len(token.Data["expiration"]) == 0 {
				return nil
			}
			// What can't be read counts as expired: a token that was meant to end must not live for ever.
			expires, err := time.Parse(time.RFC3339, string(token.Data["expiration"]))
			if left := time.Until(expires); err == nil && left > 0 {
				return reconcile.After(left)
			}
			// The version that is deleted is the one that was judged: a longer life that was granted meanwhile counts.
			err = api.Delete(ctx, token.Namespace, token.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &token.UID, ResourceVersion: &token.ResourceVersion},
			})
			if apierrors.IsConflict(err) {
				return nil // its change wakes the loop
			}
			return client.IgnoreNotFound(err)
		},
	})
	reconcile.Self(loop, tokens)
	return loop
}
