// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package job_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/controllers/job"
	"kogge.dev/kogge/testcluster"
)

// TestFinishedPodSeenTwiceCountsOnce shows pods late, so that the loop looks again and again at a pod that it has counted and released.
func TestFinishedPodSeenTwiceCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
		lag := &testcluster.Lag{Backend: c.Backend(), Resource: "pods"}
		own := client.New(lag, c.Catalog())
		testcluster.RunLoop(t, own, own, job.New)
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}
		if _, err := client.Of[*corev1.ServiceAccount](c).Create(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		w := &world{T: t, c: c, jobs: client.Of[*batchv1.Job](c), pods: client.Of[*corev1.Pod](c)}
		w.create(batchv1.JobSpec{Parallelism: new(int32(1)), Completions: new(int32(3))})
		for done := range int32(2) {
			first := w.running()
			if len(first) != 1 {
				t.Fatalf("%d pods run after %d successes, want 1", len(first), done)
			}
			lag.Events(20 * time.Second)
			w.end(0, first...)
			w.pass(19 * time.Second) // the loop saw the end, and will see the release in 20 s
			for i := range 5 {
				text := fmt.Sprintf(`{"metadata":{"labels":{"look":"%d-%d"}}}`, done, i)
				if _, err := w.jobs.Patch(t.Context(), "default", "work", types.MergePatchType, []byte(text)); err != nil {
					t.Fatal(err)
				}
				w.pass(time.Second)
				status := w.job().Status
				if status.Succeeded != done+1 {
					t.Fatalf("%d successes after look %d at a finished pod, want %d", status.Succeeded, i, done+1)
				}
				if at := slices.Index(status.UncountedTerminatedPods.Succeeded, first[0].UID); at >= 0 {
					t.Fatalf("a counted pod is to be counted once more after look %d", i)
				}
			}
			lag.Events(0)
			w.pass(time.Minute)
		}
		if got := verdict(w.job()); got != "" {
			t.Errorf("after two of three successes: %s", got)
		}
	})
}

// TestPodIsSeenWhenItGoes has one of two new pods deleted before the loop sees it.
func TestPodIsSeenWhenItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "pods", job.New)
		lag.Hide(true)
		w := &world{T: t, c: c, jobs: client.Of[*batchv1.Job](c), pods: client.Of[*corev1.Pod](c)}
		w.create(batchv1.JobSpec{Parallelism: new(int32(2)), Completions: new(int32(2))})
		made := w.running()
		if len(made) != 2 {
			t.Fatalf("%d pods run, want 2", len(made))
		}
		if err := w.pods.Delete(t.Context(), "default", made[0].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		lag.Hide(false)
		w.pass(time.Minute)
		if n := len(w.running()); n != 2 {
			t.Errorf("%d pods run after one was deleted, want 2", n)
		}
	})
}

// TestJobIsNotSeen has a Job come and go without being seen: its pod is let go.
func TestJobIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, lag := testcluster.RunAlone(t, "jobs", job.New)
		lag.Hide(true)
		w := &world{T: t, c: c, jobs: client.Of[*batchv1.Job](c), pods: client.Of[*corev1.Pod](c)}
		w.create(batchv1.JobSpec{})
		owner := w.job()
		_, err := w.pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: "left", Finalizers: []string{batchv1.JobTrackingFinalizer},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, batchv1.SchemeGroupVersion.WithKind("Job"))},
			},
			Spec: owner.Spec.Template.Spec,
		})
		if err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if err := w.jobs.Delete(t.Context(), "default", "work", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
			t.Fatal(err)
		}
		lag.Hide(false)
		w.pass(time.Minute)
		pod, err := w.pods.Get(t.Context(), "default", "left")
		if err != nil {
			t.Fatal(err)
		}
		if len(pod.Finalizers) > 0 {
			t.Errorf("the pod keeps finalizers %v", pod.Finalizers)
		}
	})
}
