// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package ttlafterfinished deletes Jobs that have ended as long ago as they ask for.
package ttlafterfinished

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	jobs := client.InformerFor[*batchv1.Job](scope.Informers)
	api := client.Of[*batchv1.Job](scope.Client)
	loop := reconcile.New(reconcile.Config{
		Name: "ttl-after-finished-controller", Log: scope.Log, Workers: 2, Informers: scope.Informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			job, ok := jobs.Get(key.Namespace, key.Name)
			if !ok {
				return nil
			}
			due, ok := expiry(job)
			if !ok {
				return nil
			}
			if left := time.Until(due); left > 0 {
				return reconcile.After(left)
			}
			// The version that is deleted is the one that was judged: a longer life that was granted meanwhile counts.
			foreground := metav1.DeletePropagationForeground
			err := api.Delete(ctx, job.Namespace, job.Name, metav1.DeleteOptions{
				PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion},
			})
			if apierrors.IsConflict(err) {
				return nil // its change wakes the loop
			}
			return client.IgnoreNotFound(err)
		},
	})
	reconcile.Self(loop, jobs)
	return loop
}

// expiry is when a Job has lived out; false for one that has not ended or has no limit.
func expiry(job *batchv1.Job) (time.Time, bool) {
	if job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return time.Time{}, false
	}
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second), true
		}
	}
	return time.Time{}, false
}
