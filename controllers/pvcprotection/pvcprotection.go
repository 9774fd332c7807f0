// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package pvcprotection keeps a PersistentVolumeClaim that is being deleted until no pod that may still run uses it.
package pvcprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
	"kogge.dev/kogge/rules/volumes"
)

const (
	finalizer   = "kubernetes.io/pvc-protection"
	podsByClaim = "pods by claim"
)

type controller struct {
	reconcile.Scope
	claims *client.Informer[*corev1.PersistentVolumeClaim]
	pods   *client.Informer[*corev1.Pod]
	api    client.Resource[*corev1.PersistentVolumeClaim]
	podAPI client.Resource[*corev1.Pod]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope:  scope,
		claims: client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers), pods: client.InformerFor[*corev1.Pod](scope.Informers),
		api: client.Of[*corev1.PersistentVolumeClaim](scope.Client), podAPI: client.Of[*corev1.Pod](scope.Client),
	}
	c.pods.AddIndex(podsByClaim, func(pod *corev1.Pod) []string {
		var names []string
		for _, key := range volumes.ClaimsOf(pod) {
			names = append(names, key.String())
		}
		return names
	})
	loop := reconcile.New(reconcile.Config{
		Name: "pvc-protection-controller", Log: scope.Log, Workers: 4, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.claims)
	c.pods.Handle(client.Handler[*corev1.Pod]{
		Update: func(_, pod *corev1.Pod) {
			if pods.IsFinished(pod) {
				loop.Enqueue(volumes.ClaimsOf(pod)...)
			}
		},
		Delete: func(pod *corev1.Pod) { loop.Enqueue(volumes.ClaimsOf(pod)...) },
	})
	return loop
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok {
		return nil
	}
	has := slices.Contains(claim.Finalizers, finalizer)
	next := claim.DeepCopy()
	switch {
	case claim.DeletionTimestamp == nil && !has:
		next.Finalizers = append(next.Finalizers, finalizer)
	case claim.DeletionTimestamp != nil && has:
		used, err := c.used(ctx, claim)
		if used || err != nil {
			return err
		}
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
	default:
		return nil
	}
	if _, err := c.api.Update(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("finalizer of claim %s: %w", key, err)
	}
	return nil
}

// used looks at the informer first and, if that knows of no user, asks the API: a pod may have been made and bound to a
// node faster than the informer saw it.
func (c *controller) used(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	for _, pod := range c.pods.ByIndex(podsByClaim, reconcile.KeyOf(claim).String()) {
		if uses(pod, claim) {
			return true, nil
		}
	}
	live, err := c.podAPI.List(ctx, claim.Namespace, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("pods that use claim %s: %w", reconcile.KeyOf(claim), err)
	}
	for _, pod := range live.Items {
		if uses(pod, claim) {
			return true, reconcile.Unseen()
		}
	}
	return false, nil
}

// uses reports whether a pod holds a claim: it has a node and has not ended. An ephemeral volume's claim is held only by
// the pod that owns it.
func uses(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if pod.Spec.NodeName == "" || pods.IsFinished(pod) {
		return false
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if volumes.ClaimName(pod, v) == claim.Name && (v.Ephemeral == nil || metav1.IsControlledBy(claim, pod)) {
			return true
		}
	}
	return false
}
