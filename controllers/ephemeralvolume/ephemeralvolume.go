// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package ephemeralvolume makes the claim behind each generic ephemeral volume of a pod. The pod owns it, so that it goes
// with the pod.
package ephemeralvolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/volumes"
)

const podsByClaim = "pods by claim"

type controller struct {
	reconcile.Scope
	pods   *client.Informer[*corev1.Pod]
	claims *client.Informer[*corev1.PersistentVolumeClaim]
	api    client.Resource[*corev1.PersistentVolumeClaim]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope,
		pods:  client.InformerFor[*corev1.Pod](scope.Informers), claims: client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers),
		api: client.Of[*corev1.PersistentVolumeClaim](scope.Client),
	}
	c.pods.AddIndex(podsByClaim, func(pod *corev1.Pod) []string {
		var names []string
		for _, key := range volumes.ClaimsOf(pod) {
			names = append(names, key.String())
		}
		return names
	})
	loop := reconcile.New(reconcile.Config{
		Name: "ephemeral-volume-controller", Log: scope.Log, Workers: 4, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	c.pods.Handle(client.Handler[*corev1.Pod]{Add: func(pod *corev1.Pod) {
		if hasEphemeral(pod) {
			loop.Enqueue(reconcile.KeyOf(pod))
		}
	}})
	// A claim that was deleted under a pod, or one of a forerunner that was in the way, is made anew.
	c.claims.Handle(client.Handler[*corev1.PersistentVolumeClaim]{Delete: func(claim *corev1.PersistentVolumeClaim) {
		for _, pod := range c.pods.ByIndex(podsByClaim, reconcile.KeyOf(claim).String()) {
			if hasEphemeral(pod) {
				loop.Enqueue(reconcile.KeyOf(pod))
			}
		}
	}})
	return loop
}

func hasEphemeral(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Ephemeral != nil {
			return true
		}
	}
	return false
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil {
		return nil
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		if err := c.ensure(ctx, pod, v); err != nil {
			c.Events.Event(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", v.Name, err)
			return fmt.Errorf("ephemeral volume %s of pod %s: %w", v.Name, key, err)
		}
	}
	return nil
}

// ensure makes the claim of one volume unless it is there.
func (c *controller) ensure(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	name := volumes.ClaimName(pod, v)
	claim, ok := c.claims.Get(pod.Namespace, name)
	if ok {
		return ownedBy(claim, pod)
	}
	template := v.Ephemeral.VolumeClaimTemplate.DeepCopy()
	_, err := c.api.Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: name, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: template.Spec,
	})
	if apierrors.IsAlreadyExists(err) {
		if claim, err = c.api.Get(ctx, pod.Namespace, name); err == nil {
			return ownedBy(claim, pod)
		}
	}
	if err != nil {
		return fmt.Errorf("create PVC %s: %w", name, err)
	}
	return nil
}

func ownedBy(claim *corev1.PersistentVolumeClaim, pod *corev1.Pod) error {
	if metav1.IsControlledBy(claim, pod) {
		return nil
	}
	return fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, claim.Name, pod.Namespace, pod.Name)
}
