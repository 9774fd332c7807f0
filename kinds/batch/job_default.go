// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"math"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds/podspec"
)

// Defaults of how often a job tries again, and of how many finished jobs a cron job keeps.
const (
	defaultBackoffLimit   = 6
	defaultSuccessHistory = 3
	defaultFailureHistory = 1
)

func defaultJob(j *batchv1.Job) {
	defaultJobSpecParts(&j.Spec)
	spec := &j.Spec
	if spec.Completions == nil && spec.Parallelism == nil {
		spec.Completions = ptr.To[int32](1)
	}
	fill(&spec.Parallelism, 1)
	limit := int32(defaultBackoffLimit)
	if spec.BackoffLimitPerIndex != nil {
		limit = math.MaxInt32
	}
	fill(&spec.BackoffLimit, limit)
	// The job shares the map with its template until it is stored: it gets the labels that generateSelector adds, too.
	if len(j.Labels) == 0 && spec.Template.Labels != nil {
		j.Labels = spec.Template.Labels
	}
	fill(&spec.CompletionMode, batchv1.NonIndexedCompletion)
	fill(&spec.Suspend, false)
	replacement := batchv1.TerminatingOrFailed
	if spec.PodFailurePolicy != nil {
		replacement = batchv1.Failed
	}
	fill(&spec.PodReplacementPolicy, replacement)
	fill(&spec.ManualSelector, false)
}

// defaultJobSpecParts fills what a job's spec gets also where it is a cron job's template.
func defaultJobSpecParts(spec *batchv1.JobSpec) {
	podspec.DefaultTemplate(&spec.Template)
	if spec.PodFailurePolicy == nil {
		return
	}
	for i := range spec.PodFailurePolicy.Rules {
		patterns := spec.PodFailurePolicy.Rules[i].OnPodConditions
		for k := range patterns {
			if patterns[k].Status == "" {
				patterns[k].Status = corev1.ConditionTrue
			}
		}
	}
}

func defaultCronJob(c *batchv1.CronJob) {
	defaultJobSpecParts(&c.Spec.JobTemplate.Spec)
	if c.Spec.ConcurrencyPolicy == "" {
		c.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	fill(&c.Spec.Suspend, false)
	fill(&c.Spec.SuccessfulJobsHistoryLimit, defaultSuccessHistory)
	fill(&c.Spec.FailedJobsHistoryLimit, defaultFailureHistory)
}

// fill points *p at value when it points nowhere.
func fill[T any](p **T, value T) {
	if *p == nil {
		*p = new(value)
	}
}
