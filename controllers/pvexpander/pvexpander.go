// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package pvexpander sees to claims that ask for more than they have. No volume that kogge makes itself has a size to
// raise, and CSI drivers bring a resizer: the loop says who is waited for, and removes the note of the old size once the
// node has grown the file system.
package pvexpander

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// sizeBeforeResize is on a volume that has grown while its file system has not.
const sizeBeforeResize = "volume.alpha.kubernetes.io/pre-resize-capacity"

type controller struct {
	reconcile.Scope
	claims  *client.Informer[*corev1.PersistentVolumeClaim]
	volumes *client.Informer[*corev1.PersistentVolume]
	api     client.Resource[*corev1.PersistentVolume]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope:   scope,
		claims:  client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers),
		volumes: client.InformerFor[*corev1.PersistentVolume](scope.Informers), api: client.Of[*corev1.PersistentVolume](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{Name: "expand-controller", Log: scope.Log, Informers: scope.Informers, Reconcile: c.reconcile})
	c.claims.Handle(client.Handler[*corev1.PersistentVolumeClaim]{
		Add: func(claim *corev1.PersistentVolumeClaim) { loop.Enqueue(reconcile.KeyOf(claim)) },
		Update: func(old, claim *corev1.PersistentVolumeClaim) {
			if grew(old.Spec.Resources.Requests, claim.Spec.Resources.Requests) || grew(old.Status.Capacity, claim.Status.Capacity) {
				loop.Enqueue(reconcile.KeyOf(claim))
			}
		},
	})
	reconcile.On(loop, c.volumes, func(pv *corev1.PersistentVolume) []reconcile.Key {
		if _, noted := pv.Annotations[sizeBeforeResize]; !noted || pv.Spec.ClaimRef == nil {
			return nil
		}
		return []reconcile.Key{{Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name}}
	})
	return loop
}

func grew(old, now corev1.ResourceList) bool {
	before, after := old[corev1.ResourceStorage], now[corev1.ResourceStorage]
	return after.Cmp(before) > 0
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok || claim.Status.Phase != corev1.ClaimBound {
		return nil
	}
	pv, ok := c.volumes.Get("", claim.Spec.VolumeName)
	if !ok || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID {
		return fmt.Errorf("volume of claim %s is not bound to it", key)
	}
	if grew(claim.Status.Capacity, claim.Spec.Resources.Requests) {
		kind := corev1.EventTypeNormal
		if pv.Spec.CSI == nil {
			kind = corev1.EventTypeWarning
		}
		c.Events.Event(claim, kind, "ExternalExpanding", "waiting for an external controller to expand this PVC")
		return nil
	}
	if _, noted := pv.Annotations[sizeBeforeResize]; !noted || grew(claim.Status.Capacity, pv.Spec.Capacity) {
		return nil
	}
	next := pv.DeepCopy()
	delete(next.Annotations, sizeBeforeResize)
	if _, err := c.api.Update(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("note of the old size of volume %s: %w", pv.Name, err)
	}
	return nil
}
