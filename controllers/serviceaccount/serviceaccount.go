// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package serviceaccount makes sure that every namespace has its default service account.
package serviceaccount

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

const defaultName = "default"

// New makes the loop; its keys are namespaces.
func New(scope reconcile.Scope) *reconcile.Loop {
	namespaces := client.InformerFor[*corev1.Namespace](scope.Informers)
	accounts := client.InformerFor[*corev1.ServiceAccount](scope.Informers)
	api := client.Of[*corev1.ServiceAccount](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "service-account-controller", Log: scope.Log, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			ns, ok := namespaces.Get("", key.Name)
			if !ok || ns.Status.Phase == corev1.NamespaceTerminating {
				return nil
			}
			if _, ok := accounts.Get(key.Name, defaultName); ok {
				return nil
			}
			_, err := api.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: defaultName}})
			return reconcile.Made(err)
		},
	})
	reconcile.Self(loop, namespaces)
	accounts.Handle(client.Handler[*corev1.ServiceAccount]{Delete: func(last *corev1.ServiceAccount) {
		if last.Name == defaultName {
			loop.Enqueue(reconcile.Key{Name: last.Namespace})
		}
	}})
	return loop
}
