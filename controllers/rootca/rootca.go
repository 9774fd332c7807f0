// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package rootca publishes the API server's certificate authority to every namespace, as the ConfigMap
// kube-root-ca.crt that pods' projected tokens come with.
package rootca

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

const (
	mapName     = "kube-root-ca.crt"
	dataKey     = "ca.crt"
	description = "kubernetes.io/description"
	meaning     = "The certificate authority that signs the API server's serving certificate for the cluster's internal addresses."
)

// New makes the loop; its keys are namespaces. The bundle is the authority's certificate in PEM.
func New(scope reconcile.Scope, bundle []byte) *reconcile.Loop {
	namespaces := client.InformerFor[*corev1.Namespace](scope.Informers)
	maps := client.InformerFor[*corev1.ConfigMap](scope.Informers)
	api := client.Of[*corev1.ConfigMap](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "root-ca-certificate-publisher-controller", Log: scope.Log, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			ns, ok := namespaces.Get("", key.Name)
			if !ok || ns.Status.Phase == corev1.NamespaceTerminating {
				return nil
			}
			known, ok := maps.Get(key.Name, mapName)
			if !ok {
				_, err := api.Create(ctx, &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: mapName, Annotations: map[string]string{description: meaning}},
					Data:       map[string]string{dataKey: string(bundle)},
				})
				return reconcile.Made(err)
			}
			if len(known.Data) == 1 && known.Data[dataKey] == string(bundle) && known.Annotations[description] != "" {
				return nil
			}
			next := known.DeepCopy()
			next.Data, next.BinaryData = map[string]string{dataKey: string(bundle)}, nil
			if next.Annotations == nil {
				next.Annotations = map[string]string{}
			}
			next.Annotations[description] = meaning
			_, err := api.Update(ctx, next)
			return err
		},
	})
	reconcile.Self(loop, namespaces)
	reconcile.On(loop, maps, func(m *corev1.ConfigMap) []reconcile.Key {
		if m.Name != mapName {
			return nil
		}
		return []reconcile.Key{{Name: m.Namespace}}
	})
	return loop
}
