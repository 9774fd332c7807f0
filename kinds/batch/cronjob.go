// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

func cronJob() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:   "cronjobs",
		Singular:   "cronjob",
		ShortNames: []string{"cj"},
		Categories: []string{"all"},
		Namespaced: true,
		Storage:    kinds.Storage{Prefix: "cronjobs"},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *batchv1.CronJob) { new.Spec = old.Spec }, nil),
		},
	}, version.WithKind("CronJob"),
		func() *batchv1.CronJob { return &batchv1.CronJob{} },
		func() runtime.Object { return &batchv1.CronJobList{} },
		kinds.Strategy[*batchv1.CronJob]{
			Default: defaultCronJob,
			PrepareCreate: func(_ kinds.Request, c *batchv1.CronJob) {
				c.Status = batchv1.CronJobStatus{}
				c.Generation = 1
				podspec.DropDisabled(&c.Spec.JobTemplate.Spec.Template.Spec, nil)
			},
			PrepareUpdate: func(_ kinds.Request, new, old *batchv1.CronJob) {
				new.Status = old.Status
				podspec.DropDisabled(&new.Spec.JobTemplate.Spec.Template.Spec, &old.Spec.JobTemplate.Spec.Template.Spec)
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateCronJob,
			ValidateUpdate: validateCronJobUpdate,
			Warn:           warnCronJob,
			Columns:        cronJobColumns(),
			Row:            cronJobRow,
		})
}

func cronJobColumns() []metav1.TableColumnDefinition {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Schedule", spec["schedule"]),
		table.Text("Timezone", spec["timeZone"]),
		table.Flag("Suspend", spec["suspend"]),
		table.Number("Active", status["active"]),
		table.Text("Last Schedule", status["lastScheduleTime"]),
		table.Age(),
	}, table.Pods(batchv1.JobSpec{}.SwaggerDoc()["selector"])...)
}

func cronJobRow(c *batchv1.CronJob, now time.Time) []any {
	last := table.None
	if c.Status.LastScheduleTime != nil {
		last = table.Since(*c.Status.LastScheduleTime, now)
	}
	job := &c.Spec.JobTemplate.Spec
	names, images := table.Containers(job.Template.Spec.Containers)
	return []any{
		c.Name, c.Spec.Schedule, table.Or(c.Spec.TimeZone, table.None), table.Truth(c.Spec.Suspend),
		int64(len(c.Status.Active)), last, table.Since(c.CreationTimestamp, now),
		names, images, metav1.FormatLabelSelector(job.Selector),
	}
}
