// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// transition is one change of a job's status. Since any controller may manage a job (spec.managedBy), the rules hold the
// controller to what clients expect of every job. Most are judged only when a field that they read changed: a status may break
// one for a while after the user edits the spec, and must stay writable.
type transition struct {
	new, old *batchv1.Job
	path     *field.Path
	errs     field.ErrorList
}

func validateJobStatus(_ kinds.Request, new, old *batchv1.Job) field.ErrorList {
	t := &transition{new: new, old: old, path: field.NewPath("status")}
	t.counts()
	t.conditions()
	t.times()
	t.finished()
	t.indexes()
	t.successCriteria()
	t.progress()
	return t.errs
}

func (t *transition) refuse(name string, value any, detail string) {
	t.errs = append(t.errs, field.Invalid(t.path.Child(name), value, detail))
}

func (t *transition) refuseConditions(detail string) {
	t.refuse("conditions", field.OmitValueType{}, detail)
}

func (t *transition) is(c batchv1.JobConditionType) bool  { return conditionTrue(t.new, c) }
func (t *transition) was(c batchv1.JobConditionType) bool { return conditionTrue(t.old, c) }

// turned reports whether a condition became or ceased to be true.
func (t *transition) turned(c batchv1.JobConditionType) bool { return t.is(c) != t.was(c) }

func conditionTrue(j *batchv1.Job, c batchv1.JobConditionType) bool {
	return hasCondition(j, c, corev1.ConditionTrue)
}

func hasCondition(j *batchv1.Job, c batchv1.JobConditionType, status corev1.ConditionStatus) bool {
	for i := range j.Status.Conditions {
		if j.Status.Conditions[i].Type == c && j.Status.Conditions[i].Status == status {
			return true
		}
	}
	return false
}

func (t *transition) isFinished() bool { return t.is(batchv1.JobComplete) || t.is(batchv1.JobFailed) }

func (t *transition) wasFinished() bool {
	return t.was(batchv1.JobComplete) || t.was(batchv1.JobFailed)
}

func (t *transition) counts() {
	s := &t.new.Status
	t.errs = append(t.errs, check.Counts(t.path,
		check.Count{Field: "active", Value: int64(s.Active)},
		check.Count{Field: "succeeded", Value: int64(s.Succeeded)},
		check.Count{Field: "failed", Value: int64(s.Failed)},
		check.Optional("ready", s.Ready),
		check.Optional("terminating", s.Terminating),
	)...)
	if s.UncountedTerminatedPods == nil {
		return
	}
	path, seen := t.path.Child("uncountedTerminatedPods"), map[types.UID]bool{}
	for _, list := range []struct {
		name string
		uids []types.UID
	}{{"succeeded", s.UncountedTerminatedPods.Succeeded}, {"failed", s.UncountedTerminatedPods.Failed}} {
		for i, uid := range list.uids {
			at := path.Child(list.name).Index(i)
			switch {
			case uid == "":
				t.errs = append(t.errs, field.Invalid(at, uid, "must not be empty"))
			case seen[uid]:
				t.errs = append(t.errs, field.Duplicate(at, uid))
			}
			seen[uid] = true
		}
	}
}

// conditions judges which conditions may stand together.
func (t *transition) conditions() {
	complete := t.turned(batchv1.JobComplete)
	if (complete || t.turned(batchv1.JobFailed)) && t.is(batchv1.JobComplete) && t.is(batchv1.JobFailed) {
		t.refuseConditions("cannot set Complete=True and Failed=true conditions")
	}
	if (complete || t.turned(batchv1.JobFailureTarget)) && t.is(batchv1.JobComplete) && t.is(batchv1.JobFailureTarget) {
		t.refuseConditions("cannot set Complete=True and FailureTarget=true conditions")
	}
	failedIndexes := !ptr.Equal(t.old.Status.FailedIndexes, t.new.Status.FailedIndexes)
	if (t.turned(batchv1.JobFailed) || failedIndexes) && t.is(batchv1.JobFailed) && !t.is(batchv1.JobFailureTarget) {
		t.refuseConditions("cannot set Failed=True condition without the FailureTarget=true condition")
	}
	if (complete || t.turned(batchv1.JobSuccessCriteriaMet)) && t.is(batchv1.JobComplete) && !t.is(batchv1.JobSuccessCriteriaMet) {
		t.refuseConditions("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	}
}

func (t *transition) times() {
	s, o := &t.new.Status, &t.old.Status
	started, ended := !s.StartTime.Equal(o.StartTime), !s.CompletionTime.Equal(o.CompletionTime)
	if t.turned(batchv1.JobComplete) || ended {
		if s.CompletionTime != nil && !t.is(batchv1.JobComplete) {
			t.refuse("completionTime", s.CompletionTime, "cannot set completionTime when there is no Complete=True condition")
		}
		if s.CompletionTime == nil && t.is(batchv1.JobComplete) {
			t.errs = append(t.errs, field.Required(t.path.Child("completionTime"), "completionTime is required for Complete jobs"))
		}
	}
	if (started || ended) && s.StartTime != nil && s.CompletionTime != nil && s.CompletionTime.Before(s.StartTime) {
		t.refuse("completionTime", s.CompletionTime, "must be equal to or after `startTime`")
	}
	if s.CompletionTime != nil && o.CompletionTime != nil && ended {
		t.refuse("completionTime", s.CompletionTime, "field is immutable")
	}
	resuming := t.was(batchv1.JobSuspended) && hasCondition(t.new, batchv1.JobSuspended, corev1.ConditionFalse)
	if started && !resuming && o.StartTime != nil && !ptr.Deref(t.new.Spec.Suspend, false) {
		t.refuse("startTime", s.StartTime, "field is immutable for unsuspended job once set")
	}
}

// finished judges what may be left of a finished job.
func (t *transition) finished() {
	s, o := &t.new.Status, &t.old.Status
	changed, done := t.isFinished() != t.wasFinished(), t.isFinished()
	if done {
		if (changed || s.Active != o.Active) && s.Active > 0 {
			t.refuse("active", s.Active, "active>0 is invalid for finished job")
		}
		empty := ptr.Deref(t.new.Spec.Suspend, false) && t.new.Spec.Completions != nil && *t.new.Spec.Completions == 0
		if (changed || !s.StartTime.Equal(o.StartTime)) && !empty && s.StartTime == nil {
			t.errs = append(t.errs, field.Required(t.path.Child("startTime"), "startTime is required for finished job"))
		}
		uncounted := !equal.Semantic(s.UncountedTerminatedPods, o.UncountedTerminatedPods)
		if u := s.UncountedTerminatedPods; (changed || uncounted) && u != nil && len(u.Failed)+len(u.Succeeded) > 0 {
			t.refuse("uncountedTerminatedPods", u, "must be empty for finished job")
		}
		if (changed || !ptr.Equal(s.Terminating, o.Terminating)) && ptr.Deref(s.Terminating, 0) > 0 {
			t.refuse("terminating", s.Terminating, "terminating>0 is invalid for finished job")
		}
	}
	if (!ptr.Equal(s.Ready, o.Ready) || s.Active != o.Active) && ptr.Deref(s.Ready, 0) > s.Active {
		t.refuse("ready", *s.Ready, "cannot set more ready pods than active")
	}
}

func (t *transition) indexes() {
	s, spec := &t.new.Status, &t.new.Spec
	completed := t.old.Status.CompletedIndexes != s.CompletedIndexes
	failed := !ptr.Equal(t.old.Status.FailedIndexes, s.FailedIndexes)
	if completed && spec.Completions != nil {
		if _, err := parseIndexes(s.CompletedIndexes, *spec.Completions); err != nil {
			t.refuse("completedIndexes", s.CompletedIndexes, fmt.Sprintf("error parsing completedIndexes: %v", err))
		}
	}
	if failed && spec.Completions != nil && spec.BackoffLimitPerIndex != nil && s.FailedIndexes != nil {
		if _, err := parseIndexes(*s.FailedIndexes, *spec.Completions); err != nil {
			t.refuse("failedIndexes", s.FailedIndexes, fmt.Sprintf("error parsing failedIndexes: %v", err))
		}
	}
	if completed && s.CompletedIndexes != "" && !indexed(spec) {
		t.refuse("completedIndexes", s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode")
	}
	if failed && spec.BackoffLimitPerIndex == nil && s.FailedIndexes != nil {
		t.refuse("failedIndexes", *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
	}
	if (completed || failed) && spec.Completions != nil && s.FailedIndexes != nil {
		if at, shared := overlap(s.CompletedIndexes, *s.FailedIndexes, *spec.Completions); shared {
			t.refuse("failedIndexes", *s.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", at))
		}
	}
}

func (t *transition) successCriteria() {
	met := t.is(batchv1.JobSuccessCriteriaMet)
	if met && t.is(batchv1.JobFailed) {
		t.refuseConditions("cannot set SuccessCriteriaMet=True and Failed=true conditions")
	}
	if met && t.is(batchv1.JobFailureTarget) {
		t.refuseConditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	}
	if t.new.Spec.SuccessPolicy != nil && !met && t.is(batchv1.JobComplete) {
		t.refuseConditions("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	}
}

// progress judges what may never go back.
func (t *transition) progress() {
	s, o := &t.new.Status, &t.old.Status
	for _, c := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if t.was(c) && !t.is(c) {
			t.refuseConditions(fmt.Sprintf("cannot disable the terminal %s=True condition", c))
		}
	}
	if s.Failed < o.Failed {
		t.refuse("failed", s.Failed, "cannot decrease the failed counter")
	}
	// An indexed job whose completions equal its parallelism can be scaled down, and then loses successes.
	elastic := indexed(&t.new.Spec) && ptr.Equal(t.new.Spec.Completions, t.new.Spec.Parallelism)
	if !elastic && s.Succeeded < o.Succeeded {
		t.refuse("succeeded", s.Succeeded, "cannot decrease the succeeded counter")
	}
	if t.was(batchv1.JobSuccessCriteriaMet) && !t.is(batchv1.JobSuccessCriteriaMet) {
		t.refuseConditions("cannot disable the SuccessCriteriaMet=True condition")
	}
	if t.was(batchv1.JobComplete) && !t.was(batchv1.JobSuccessCriteriaMet) && t.is(batchv1.JobSuccessCriteriaMet) {
		t.refuseConditions("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
	}
}
