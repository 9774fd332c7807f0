// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/batch/schedule"
	"kogge.dev/kogge/kinds/check"
)

// maxCronJobName leaves room for the eleven characters that a job's name adds.
const maxCronJobName = 52

func validateCronJob(_ kinds.Request, c *batchv1.CronJob) field.ErrorList {
	errs := validateCronJobSpec(&c.Spec, nil, field.NewPath("spec"))
	if len(c.Name) > maxCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	return errs
}

func validateCronJobUpdate(_ kinds.Request, new, old *batchv1.CronJob) field.ErrorList {
	return validateCronJobSpec(&new.Spec, &old.Spec, field.NewPath("spec"))
}

func validateCronJobSpec(spec, old *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Schedule == "" {
		errs = append(errs, field.Required(path.Child("schedule"), ""))
	} else {
		errs = append(errs, validateSchedule(spec, old, path.Child("schedule"))...)
	}
	errs = append(errs, check.Counts(path, check.Count{Field: "startingDeadlineSeconds", Value: ptr.Deref(spec.StartingDeadlineSeconds, 0)})...)
	if old == nil || !ptr.Equal(old.TimeZone, spec.TimeZone) {
		errs = append(errs, validateTimeZone(spec.TimeZone, path.Child("timeZone"))...)
	}
	errs = append(errs, check.OneOf(spec.ConcurrencyPolicy, path.Child("concurrencyPolicy"),
		batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)
	errs = append(errs, validateJobTemplate(spec, old, path.Child("jobTemplate", "spec"))...)
	return append(errs, check.Counts(path,
		check.Optional("successfulJobsHistoryLimit", spec.SuccessfulJobsHistoryLimit),
		check.Optional("failedJobsHistoryLimit", spec.FailedJobsHistoryLimit),
	)...)
}

// validateSchedule refuses time zones inside the schedule, but for cron jobs that were stored with one.
func validateSchedule(spec, old *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if _, err := schedule.Parse(spec.Schedule); err != nil {
		errs = append(errs, field.Invalid(path, spec.Schedule, err.Error()))
	}
	if !strings.Contains(spec.Schedule, "TZ") {
		return errs
	}
	switch tolerated := old != nil && strings.Contains(old.Schedule, "TZ"); {
	case !tolerated:
		errs = append(errs, field.Invalid(path, spec.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	case spec.TimeZone != nil:
		errs = append(errs, field.Invalid(path, spec.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
	}
	return errs
}

func validateTimeZone(zone *string, path *field.Path) field.ErrorList {
	if zone == nil {
		return nil
	}
	if *zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	for part := range strings.SplitSeq(*zone, "/") {
		if !zonePart(part) {
			return field.ErrorList{field.Invalid(path, zone, "unknown time zone "+*zone)}
		}
	}
	var errs field.ErrorList
	if strings.EqualFold(*zone, "Local") {
		errs = append(errs, field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		errs = append(errs, field.Invalid(path, zone, err.Error()))
	}
	return errs
}

// zonePart admits what a part of a time zone's name may look like, so that no name leaves the folder of zone files.
func zonePart(part string) bool {
	if part == "." || part == ".." || strings.HasPrefix(part, "-") || part == "" || len(part) > 14 {
		return false
	}
	for _, r := range part {
		letter := r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && !strings.ContainsRune(".-_+", r) {
			return false
		}
	}
	return true
}

func validateJobTemplate(spec, old *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	var oldJob *batchv1.JobSpec
	if old != nil {
		oldJob = &old.JobTemplate.Spec
	}
	job := &spec.JobTemplate.Spec
	errs := validateSpec(job, oldJob, path)
	if job.Selector != nil {
		errs = append(errs, field.Invalid(path.Child("selector"), job.Selector, "`selector` will be auto-generated"))
	}
	if ptr.Deref(job.ManualSelector, false) {
		errs = append(errs, field.NotSupported(path.Child("manualSelector"), job.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

// warnCronJob takes a nil old on create.
func warnCronJob(_ kinds.Request, new, old *batchv1.CronJob) []string {
	path := field.NewPath("spec", "jobTemplate", "spec")
	if old == nil {
		return append(warnName(new.Name), warnSpec(&new.Spec.JobTemplate.Spec, path)...)
	}
	var warnings []string
	if new.Generation != old.Generation {
		warnings = warnSpec(&new.Spec.JobTemplate.Spec, path)
	}
	if strings.Contains(new.Spec.Schedule, "TZ") {
		warnings = append(warnings, fmt.Sprintf("cannot use TZ or CRON_TZ in %s, use timeZone instead, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", field.NewPath("spec", "spec", "schedule")))
	}
	return warnings
}
