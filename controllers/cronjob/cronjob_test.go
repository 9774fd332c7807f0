// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cronjob_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

// world is one cluster in a bubble, and the CronJob "tick" in it.
type world struct {
	*testing.T
	c    *client.Client
	jobs client.Resource[*batchv1.Job]
	api  client.Resource[*batchv1.CronJob]
}

// begin starts a cluster and makes a CronJob that is due every minute; change may alter it.
func begin(t *testing.T, change func(*batchv1.CronJobSpec)) *world {
	t.Helper()
	c := testcluster.New(t).Admin()
	w := &world{T: t, c: c, jobs: client.Of[*batchv1.Job](c), api: client.Of[*batchv1.CronJob](c)}
	cron := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tick"},
		Spec: batchv1.CronJobSpec{
			Schedule: "* * * * *",
			JobTemplate: batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "tick"}},
				Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
					RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "tick:1"}},
				}}},
			},
		},
	}
	if change != nil {
		change(&cron.Spec)
	}
	if _, err := w.api.Create(t.Context(), cron); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) list() []*batchv1.Job {
	w.Helper()
	list, err := w.jobs.List(w.Context(), "default", metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b *batchv1.Job) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

func (w *world) status() batchv1.CronJobStatus {
	w.Helper()
	cron, err := w.api.Get(w.Context(), "default", "tick")
	if err != nil {
		w.Fatal(err)
	}
	return cron.Status
}

// end lets the pods of all Jobs end in a phase.
func (w *world) end(phase corev1.PodPhase) {
	w.Helper()
	pods := client.Of[*corev1.Pod](w.c)
	list, err := pods.List(w.Context(), "default", metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	for _, p := range list.Items {
		if p.Status.Phase == phase || p.DeletionTimestamp != nil {
			continue
		}
		next := p.DeepCopy()
		next.ResourceVersion, next.Status.Phase = "", phase
		if _, err := pods.UpdateStatus(w.Context(), next); err != nil {
			w.Fatal(err)
		}
	}
	w.pass(2 * time.Second)
}

func (w *world) reasons() map[string]string {
	w.Helper()
	list, err := client.Of[*corev1.Event](w.c).List(w.Context(), "default", metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range list.Items {
		if e.InvolvedObject.Kind == "CronJob" {
			out[e.Reason] = e.Message
		}
	}
	return out
}

// TestJobsAreMadeAndCleaned follows five minutes of a CronJob whose Jobs succeed.
func TestJobsAreMadeAndCleaned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		two := int32(2)
		w := begin(t, func(s *batchv1.CronJobSpec) { s.SuccessfulJobsHistoryLimit = &two })
		w.pass(65 * time.Second)
		jobs := w.list()
		if len(jobs) != 1 {
			t.Fatalf("%d jobs after a minute, want 1", len(jobs))
		}
		due := time.Now().Truncate(time.Minute)
		status := w.status()
		if len(status.Active) != 1 || status.Active[0].Name != jobs[0].Name || status.LastScheduleTime == nil || !status.LastScheduleTime.Time.Equal(due) {
			t.Errorf("status %+v", status)
		}
		if jobs[0].Labels["app"] != "tick" || jobs[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation] != due.UTC().Format(time.RFC3339) {
			t.Errorf("job has labels %v and annotations %v", jobs[0].Labels, jobs[0].Annotations)
		}
		for range 4 {
			w.end(corev1.PodSucceeded)
			w.pass(58 * time.Second)
		}
		w.end(corev1.PodSucceeded)
		if jobs := w.list(); len(jobs) != 2 {
			t.Errorf("%d finished jobs are kept, want 2", len(jobs))
		}
		status = w.status()
		if len(status.Active) != 0 || status.LastSuccessfulTime == nil {
			t.Errorf("status %+v", status)
		}
		reasons := w.reasons()
		for _, want := range []string{"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} {
			if reasons[want] == "" {
				t.Errorf("no event %s in %v", want, reasons)
			}
		}
		if !strings.HasSuffix(reasons["SawCompletedJob"], ", condition: Complete") {
			t.Errorf("message %q", reasons["SawCompletedJob"])
		}
	})
}

// TestConcurrency lets a Job run for longer than a minute under each policy.
func TestConcurrency(t *testing.T) {
	for policy, want := range map[batchv1.ConcurrencyPolicy]struct {
		jobs, active int
		reason       string
	}{
		batchv1.AllowConcurrent:   {2, 2, "SuccessfulCreate"},
		batchv1.ForbidConcurrent:  {1, 1, "JobAlreadyActive"},
		batchv1.ReplaceConcurrent: {1, 1, "SuccessfulDelete"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := begin(t, func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = policy })
				w.pass(65 * time.Second)
				first := w.list()
				w.pass(60 * time.Second)
				jobs := w.list()
				if len(jobs) != want.jobs || len(w.status().Active) != want.active || w.reasons()[want.reason] == "" {
					t.Errorf("%d jobs, %d active, events %v", len(jobs), len(w.status().Active), w.reasons())
				}
				if replaced := jobs[0].UID != first[0].UID; replaced != (policy == batchv1.ReplaceConcurrent) {
					t.Errorf("replaced = %v", replaced)
				}
			})
		})
	}
}

// TestSuspendAndDeadline suspends a CronJob for longer than its deadline.
func TestSuspendAndDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		yes, limit := true, int64(200)
		zone := "Asia/Kolkata"
		w := begin(t, func(s *batchv1.CronJobSpec) {
			// Due at midnight of the test's clock only: half past five in Kolkata.
			s.Suspend, s.StartingDeadlineSeconds, s.TimeZone, s.Schedule = &yes, &limit, &zone, "31 5 1 1 *"
		})
		w.pass(5 * time.Minute)
		if jobs := w.list(); len(jobs) != 0 {
			t.Fatalf("%d jobs while suspended", len(jobs))
		}
		resume := []byte(`{"spec":{"suspend":false}}`)
		if _, err := w.api.Patch(t.Context(), "default", "tick", types.MergePatchType, resume); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		if jobs := w.list(); len(jobs) != 0 {
			t.Errorf("%d jobs past the deadline, events %v", len(jobs), w.reasons())
		}
		if _, err := w.api.Patch(t.Context(), "default", "tick", types.MergePatchType, []byte(`{"spec":{"startingDeadlineSeconds":3600}}`)); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		jobs := w.list()
		if len(jobs) != 1 || jobs[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "2000-01-01T05:31:00+05:30" {
			t.Errorf("jobs within the deadline: %v", jobs)
		}
	})
}
