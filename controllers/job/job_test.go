// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package job_test

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

// world is a cluster in a bubble with the Job "work".
type world struct {
	*testing.T
	c    *client.Client
	jobs client.Resource[*batchv1.Job]
	pods client.Resource[*corev1.Pod]
}

func begin(t *testing.T, spec batchv1.JobSpec) *world {
	t.Helper()
	c := testcluster.New(t).Admin()
	w := &world{T: t, c: c, jobs: client.Of[*batchv1.Job](c), pods: client.Of[*corev1.Pod](c)}
	w.create(spec)
	return w
}

func (w *world) create(spec batchv1.JobSpec) {
	w.Helper()
	spec.Template.Spec = corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "c:1"}},
	}
	if _, err := w.jobs.Create(w.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "work"}, Spec: spec}); err != nil {
		w.Fatal(err)
	}
	w.pass(3 * time.Second)
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) job() *batchv1.Job {
	w.Helper()
	job, err := w.jobs.Get(w.Context(), "default", "work")
	if err != nil {
		w.Fatal(err)
	}
	return job
}

// running lists the pods that have not ended.
func (w *world) running() []*corev1.Pod {
	w.Helper()
	list, err := w.pods.List(w.Context(), "default", metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	out := slices.DeleteFunc(list.Items, func(p *corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// end lets pods end with an exit code.
func (w *world) end(code int32, pods ...*corev1.Pod) {
	w.Helper()
	for _, p := range pods {
		next := p.DeepCopy()
		next.ResourceVersion, next.Status.Phase = "", corev1.PodSucceeded
		if code != 0 {
			next.Status.Phase = corev1.PodFailed
		}
		next.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Now()}},
		}}
		if _, err := w.pods.UpdateStatus(w.Context(), next); err != nil {
			w.Fatal(err)
		}
	}
	w.pass(2 * time.Second)
}

// verdict renders the conditions that are true.
func verdict(job *batchv1.Job) string {
	var out []string
	for _, c := range job.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			out = append(out, string(c.Type)+"="+c.Reason)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestCompletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, batchv1.JobSpec{Parallelism: new(int32(2)), Completions: new(int32(3))})
		if n := len(w.running()); n != 2 {
			t.Fatalf("%d pods run, want 2", n)
		}
		w.end(0, w.running()...)
		if n, s := len(w.running()), w.job().Status; n != 1 || s.Succeeded != 2 || s.Active != 1 {
			t.Fatalf("%d pods run after two, status %+v", n, s)
		}
		w.end(0, w.running()...)
		job := w.job()
		if got := verdict(job); got != "Complete=CompletionsReached SuccessCriteriaMet=CompletionsReached" {
			t.Errorf("conditions %s", got)
		}
		s := job.Status
		if s.Succeeded != 3 || s.Active != 0 || s.CompletionTime == nil || s.StartTime == nil || *s.Ready != 0 {
			t.Errorf("status %+v", s)
		}
		list, err := w.pods.List(t.Context(), "default", metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range list.Items {
			if len(pod.Finalizers) > 0 {
				t.Errorf("pod %s keeps finalizers %v", pod.Name, pod.Finalizers)
			}
		}
	})
}

func TestBackoffLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, batchv1.JobSpec{BackoffLimit: new(int32(1))})
		w.end(1, w.running()...)
		if n := len(w.running()); n != 0 {
			t.Fatalf("%d pods run at once after a failure", n)
		}
		w.pass(10 * time.Second)
		if n := len(w.running()); n != 1 {
			t.Fatalf("%d pods run after the back-off, want 1", n)
		}
		w.end(1, w.running()...)
		if job := w.job(); verdict(job) != "Failed=BackoffLimitExceeded FailureTarget=BackoffLimitExceeded" || job.Status.Failed != 2 {
			t.Errorf("%s, %d failed", verdict(job), job.Status.Failed)
		}
	})
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, batchv1.JobSpec{ActiveDeadlineSeconds: new(int64(30))})
		w.pass(20 * time.Second)
		if got := verdict(w.job()); got != "" {
			t.Fatalf("before the deadline: %s", got)
		}
		w.pass(10 * time.Second)
		if got := verdict(w.job()); got != "Failed=DeadlineExceeded FailureTarget=DeadlineExceeded" {
			t.Errorf("after the deadline: %s", got)
		}
		if n := len(w.running()); n != 0 {
			t.Errorf("%d pods run after the deadline", n)
		}
	})
}

func TestIndexes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, batchv1.JobSpec{
			Parallelism: new(int32(3)), Completions: new(int32(4)), CompletionMode: new(batchv1.IndexedCompletion), BackoffLimitPerIndex: new(int32(0)),
		})
		byIndex := func(index string) *corev1.Pod {
			t.Helper()
			for _, pod := range w.running() {
				if pod.Annotations[batchv1.JobCompletionIndexAnnotation] == index {
					if pod.Labels[batchv1.JobCompletionIndexAnnotation] != index || pod.Spec.Hostname != "work-"+index {
						t.Errorf("pod of index %s has labels %v, hostname %s", index, pod.Labels, pod.Spec.Hostname)
					}
					return pod
				}
			}
			t.Fatalf("no pod of index %s", index)
			return nil
		}
		w.end(0, byIndex("0"), byIndex("2"))
		if s := w.job().Status; s.CompletedIndexes != "0,2" || s.Active != 2 {
			t.Fatalf("status %+v", s)
		}
		w.end(1, byIndex("1"))
		w.end(0, byIndex("3"))
		job := w.job()
		if verdict(job) != "Failed=FailedIndexes FailureTarget=FailedIndexes" || job.Status.CompletedIndexes != "0,2,3" || *job.Status.FailedIndexes != "1" {
			t.Errorf("%s, status %+v", verdict(job), job.Status)
		}
	})
}

func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, batchv1.JobSpec{Suspend: new(true)})
		if job := w.job(); verdict(job) != "Suspended=JobSuspended" || job.Status.StartTime != nil || len(w.running()) != 0 {
			t.Fatalf("suspended: %s, status %+v", verdict(job), job.Status)
		}
		set := func(v string) {
			t.Helper()
			if _, err := w.jobs.Patch(t.Context(), "default", "work", types.MergePatchType, []byte(`{"spec":{"suspend":`+v+`}}`)); err != nil {
				t.Fatal(err)
			}
			w.pass(3 * time.Second)
		}
		set("false")
		if job := w.job(); verdict(job) != "" || job.Status.StartTime == nil || len(w.running()) != 1 {
			t.Fatalf("resumed: %s, status %+v", verdict(job), job.Status)
		}
		set("true")
		if job := w.job(); verdict(job) != "Suspended=JobSuspended" || job.Status.Active != 0 || job.Status.Failed != 0 || len(w.running()) != 0 {
			t.Errorf("suspended again: %s, status %+v", verdict(job), job.Status)
		}
	})
}

func TestFailurePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := func(action batchv1.PodFailurePolicyAction, code int32) batchv1.PodFailurePolicyRule {
			return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{code},
			}}
		}
		w := begin(t, batchv1.JobSpec{BackoffLimit: new(int32(0)), PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
			rule(batchv1.PodFailurePolicyActionIgnore, 3), rule(batchv1.PodFailurePolicyActionFailJob, 42),
		}}})
		w.end(3, w.running()...)
		w.pass(15 * time.Second)
		if job := w.job(); verdict(job) != "" || job.Status.Failed != 0 || len(w.running()) != 1 {
			t.Fatalf("after an ignored failure: %s, status %+v", verdict(job), job.Status)
		}
		w.end(42, w.running()...)
		job := w.job()
		if verdict(job) != "Failed=PodFailurePolicy FailureTarget=PodFailurePolicy" {
			t.Fatalf("conditions %s", verdict(job))
		}
		for _, c := range job.Status.Conditions {
			if !strings.HasPrefix(c.Message, "Container c for pod default/work-") || !strings.HasSuffix(c.Message, " failed with exit code 42 matching FailJob rule at index 1") {
				t.Errorf("message %q", c.Message)
			}
		}
	})
}
