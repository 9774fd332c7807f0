// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package pvprotection keeps a PersistentVolume that is being deleted until no claim is bound to it.
package pvprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

const finalizer = "kubernetes.io/pv-protection"

type controller struct {
	reconcile.Scope
	volumes *client.Informer[*corev1.PersistentVolume]
	api     client.Resource[*corev1.PersistentVolume]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, volumes: client.InformerFor[*corev1.PersistentVolume](scope.Informers), api: client.Of[*corev1.PersistentVolume](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{Name: "pv-protection-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile})
	reconcile.Self(loop, c.volumes)
	return loop
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	pv, ok := c.volumes.Get("", key.Name)
	if !ok {
		return nil
	}
	has := slices.Contains(pv.Finalizers, finalizer)
	next := pv.DeepCopy()
	switch {
	case pv.DeletionTimestamp == nil && !has:
		// Admission adds it to new volumes; this one was stored by somebody else.
		next.Finalizers = append(next.Finalizers, finalizer)
	case pv.DeletionTimestamp != nil && has && pv.Status.Phase != corev1.VolumeBound:
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
	default:
		return nil
	}
	if _, err := c.api.Update(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("finalizer of volume %s: %w", pv.Name, err)
	}
	return nil
}
