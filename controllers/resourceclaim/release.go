// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resourceclaim

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// releaser drops what pods no longer need.
type releaser struct {
	reconcile.Scope
	pods   *client.Informer[*corev1.Pod]
	claims *client.Informer[*resourcev1.ResourceClaim]
	podAPI client.Resource[*corev1.Pod]
	api    client.Resource[*resourcev1.ResourceClaim]
}

// NewRelease makes the loop that looks at claims.
func NewRelease(scope reconcile.Scope) *reconcile.Loop {
	r := &releaser{
		Scope: scope, pods: client.InformerFor[*corev1.Pod](scope.Informers), claims: client.InformerFor[*resourcev1.ResourceClaim](scope.Informers),
		podAPI: client.Of[*corev1.Pod](scope.Client), api: client.Of[*resourcev1.ResourceClaim](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "resourceclaim-release", Log: scope.Log, Workers: 4, Informers: scope.Informers, Reconcile: r.reconcile,
	})
	reconcile.Self(loop, r.claims)
	look := func(pod *corev1.Pod) { loop.Enqueue(claimsOf(pod)...) }
	r.pods.Handle(client.Handler[*corev1.Pod]{
		Update: func(old, pod *corev1.Pod) {
			if done(pod) && !done(old) || old.UID != pod.UID {
				look(old)
				look(pod)
			}
		},
		Delete: look,
	})
	return loop
}

// reconcile drops the reservations of pods that are over, then the allocation that nobody uses, then a generated claim whose
// pod is over.
func (r *releaser) reconcile(ctx context.Context, key reconcile.Key) error {
	claim, ok := r.claims.Get(key.Namespace, key.Name)
	if !ok {
		return nil
	}
	var users []resourcev1.ResourceClaimConsumerReference
	for _, user := range claim.Status.ReservedFor {
		using, err := r.using(ctx, claim.Namespace, user)
		if err != nil {
			return err
		}
		if using {
			users = append(users, user)
		}
	}
	claim, err := r.release(ctx, claim, users)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	name, uid := owner(claim)
	if len(users) > 0 || name == "" || claim.DeletionTimestamp != nil {
		return nil
	}
	// The garbage collector would take a generated claim away with its pod; a finished pod may stay for long.
	pod, ok := r.pods.Get(claim.Namespace, name)
	if !ok || pod.UID == uid && !done(pod) {
		return nil
	}
	if err := r.api.Delete(ctx, claim.Namespace, claim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &claim.UID}}); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("delete unused generated claim %s: %w", key, err))
	}
	return nil
}

// using reports whether a consumer may still use the claim. Only pods can be judged; others stay.
func (r *releaser) using(ctx context.Context, namespace string, user resourcev1.ResourceClaimConsumerReference) (bool, error) {
	if user.APIGroup != "" || user.Resource != "pods" {
		return true, nil
	}
	pod, ok := r.pods.Get(namespace, user.Name)
	if !ok || pod.UID != user.UID {
		// The informer may lag behind a pod that is just being scheduled: taking its devices away would be worse than asking.
		var err error
		if pod, err = r.podAPI.Get(ctx, namespace, user.Name); err != nil {
			return false, client.IgnoreNotFound(err)
		}
	}
	return pod.UID == user.UID && !done(pod), nil
}

// release writes what is left of the reservations. With the last one goes the allocation, and with that the finalizer, so
// that the devices are free for others.
func (r *releaser) release(ctx context.Context, claim *resourcev1.ResourceClaim, users []resourcev1.ResourceClaimConsumerReference) (*resourcev1.ResourceClaim, error) {
	ours := slices.Contains(claim.Finalizers, resourcev1.Finalizer)
	freed := len(users) < len(claim.Status.ReservedFor)
	// A claim that was never reserved may have been allocated in advance: it stays so until it is deleted.
	unused := len(users) == 0 && (freed || claim.DeletionTimestamp != nil)
	next := claim.DeepCopy()
	next.Status.ReservedFor = users
	if unused && ours {
		next.Status.Allocation = nil
	}
	if freed || next.Status.Allocation == nil && claim.Status.Allocation != nil {
		updated, err := r.api.UpdateStatus(ctx, next) // whole, so that it fails if anybody reserved the claim meanwhile
		if err != nil {
			return claim, fmt.Errorf("release claim %s/%s: %w", claim.Namespace, claim.Name, err)
		}
		next = updated.DeepCopy()
	}
	if !ours || !unused || next.Status.Allocation != nil {
		return next, nil
	}
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
	updated, err := r.api.Update(ctx, next)
	if err != nil {
		return next, fmt.Errorf("remove finalizer of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return updated, nil
}
