// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package ttlafterfinished_test

import (
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// TestFinishedJobGoes runs a Job that may stay for a minute after its end.
func TestFinishedJobGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t).Admin()
		jobs, pods := client.Of[*batchv1.Job](c), client.Of[*corev1.Pod](c)
		ttl := int32(60)
		_, err := jobs.Create(t.Context(), &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "once"},
			Spec: batchv1.JobSpec{TTLSecondsAfterFinished: &ttl, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "once:1"}},
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		list, err := pods.List(t.Context(), "default", metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("%d pods, %v", len(list.Items), err)
		}
		next := list.Items[0].DeepCopy()
		next.ResourceVersion, next.Status.Phase = "", corev1.PodSucceeded
		if _, err := pods.UpdateStatus(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(55 * time.Second)
		synctest.Wait()
		if job, err := jobs.Get(t.Context(), "default", "once"); err != nil || job.Status.Succeeded != 1 {
			t.Errorf("before its time: %+v, %v", job, err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, err := jobs.Get(t.Context(), "default", "once"); !apierrors.IsNotFound(err) {
			t.Errorf("after its time: %v, want not found", err)
		}
	})
}
