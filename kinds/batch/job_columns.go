// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"kogge.dev/kogge/kinds/table"
)

func jobColumns() []metav1.TableColumnDefinition {
	return append([]metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Status", "Status of the job."),
		table.Text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
		table.Text("Duration", "Time required to complete the job."),
		table.Age(),
	}, table.Pods(batchv1.JobSpec{}.SwaggerDoc()["selector"])...)
}

func jobRow(j *batchv1.Job, now time.Time) []any {
	names, images := table.Containers(j.Spec.Template.Spec.Containers)
	return []any{
		j.Name, jobState(j), jobCompletions(j), jobDuration(j, now), table.Since(j.CreationTimestamp, now),
		names, images, metav1.FormatLabelSelector(j.Spec.Selector),
	}
}

// jobState is the first of these that holds: how it ended, that it is going away, why it isn't running.
func jobState(j *batchv1.Job) string {
	switch {
	case holds(j.Status.Conditions, batchv1.JobComplete):
		return "Complete"
	case holds(j.Status.Conditions, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case holds(j.Status.Conditions, batchv1.JobSuspended):
		return "Suspended"
	case holds(j.Status.Conditions, batchv1.JobFailureTarget):
		return "FailureTarget"
	case holds(j.Status.Conditions, batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobCompletions(j *batchv1.Job) string {
	switch {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job, now time.Time) string {
	switch {
	case j.Status.StartTime == nil:
		return ""
	case j.Status.CompletionTime == nil:
		return duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
	}
	return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
}

// holds reports whether the condition of that type is true.
func holds(conditions []batchv1.JobCondition, t batchv1.JobConditionType) bool {
	for i := range conditions {
		if conditions[i].Type == t {
			return conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}
