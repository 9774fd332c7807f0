// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cronjob makes the Jobs of a CronJob when they are due, and keeps only so many finished ones.
package cronjob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds/batch/schedule"
	"kogge.dev/kogge/reconcile"
)

// padding is added to the time to the next start, so that clocks that differ a little don't miss it.
const padding = 100 * time.Millisecond

var kind = batchv1.SchemeGroupVersion.WithKind("CronJob")

type controller struct {
	reconcile.Scope
	crons *client.Informer[*batchv1.CronJob]
	jobs  *client.Informer[*batchv1.Job]
	api   client.Resource[*batchv1.CronJob]
	job   client.Resource[*batchv1.Job]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, crons: client.InformerFor[*batchv1.CronJob](scope.Informers), jobs: client.InformerFor[*batchv1.Job](scope.Informers),
		api: client.Of[*batchv1.CronJob](scope.Client), job: client.Of[*batchv1.Job](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "cronjob-controller", Log: scope.Log, Workers: 5, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.IndexControllers(c.jobs)
	reconcile.Self(loop, c.crons)
	reconcile.Owner(loop, c.jobs, kind.Kind)
	return loop
}

// round is one reconcile of one CronJob; cron is a copy whose status is brought up to date.
type round struct {
	*controller
	cron *batchv1.CronJob
	key  reconcile.Key
	jobs []*batchv1.Job
	now  time.Time
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	known, ok := c.crons.Get(key.Namespace, key.Name)
	if !ok {
		return nil
	}
	r := &round{controller: c, cron: known.DeepCopy(), key: key, jobs: reconcile.Controlled(c.jobs, known), now: time.Now()}
	before := known.Status.DeepCopy()
	if fresh, err := r.refresh(ctx); err != nil {
		return err
	} else if fresh != nil {
		r.cron, before = fresh.DeepCopy(), fresh.Status.DeepCopy()
	}
	r.clean(ctx)
	if err := r.settle(ctx); err != nil {
		return err
	}
	next, err := r.start(ctx)
	if !equal.Semantic(before, &r.cron.Status) {
		if _, updateErr := c.api.UpdateStatus(ctx, r.cron); client.IgnoreNotFound(updateErr) != nil {
			return errors.Join(err, fmt.Errorf("status of %s: %w", key, updateErr))
		}
	}
	if err != nil {
		return err
	}
	if next > 0 {
		return reconcile.After(next)
	}
	return nil
}

// refresh reads the CronJob anew when there is an unfinished Job that the view's status does not list: the view of
// CronJobs lags behind that of Jobs.
func (r *round) refresh(ctx context.Context) (*batchv1.CronJob, error) {
	unlisted := func(cron *batchv1.CronJob) *batchv1.Job {
		for _, j := range r.jobs {
			if done, _ := finished(j); !done && !active(cron, j.UID) {
				return j
			}
		}
		return nil
	}
	if unlisted(r.cron) == nil {
		return nil, nil
	}
	fresh, err := r.api.Get(ctx, r.key.Namespace, r.key.Name)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if j := unlisted(fresh); j != nil {
		r.Events.Event(r.cron, corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
	}
	return fresh, nil
}

func finished(j *batchv1.Job) (bool, batchv1.JobConditionType) {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true, c.Type
		}
	}
	return false, ""
}

func active(cron *batchv1.CronJob, uid types.UID) bool {
	return slices.ContainsFunc(cron.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}

func (r *round) drop(uid types.UID) {
	r.cron.Status.Active = slices.DeleteFunc(r.cron.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}

// clean deletes the oldest finished Jobs beyond the limits.
func (r *round) clean(ctx context.Context) {
	limits := map[batchv1.JobConditionType]*int32{
		batchv1.JobComplete: r.cron.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: r.cron.Spec.FailedJobsHistoryLimit,
	}
	for result, limit := range limits {
		if limit == nil {
			continue
		}
		var past []*batchv1.Job
		for _, j := range r.jobs {
			if done, how := finished(j); done && how == result && j.DeletionTimestamp == nil {
				past = append(past, j)
			}
		}
		slices.SortFunc(past, byStart)
		for _, j := range past[:max(0, len(past)-int(*limit))] {
			r.delete(ctx, j.Name, j.UID)
		}
	}
}

// byStart orders Jobs by when they began, those that never did last.
func byStart(a, b *batchv1.Job) int {
	x, y := a.Status.StartTime, b.Status.StartTime
	switch {
	case x == nil && y == nil:
	case x == nil:
		return 1
	case y == nil:
		return -1
	case !x.Equal(y):
		return x.Compare(y.Time)
	}
	return strings.Compare(a.Name, b.Name)
}

// delete removes a Job with its pods, and reports whether that worked.
func (r *round) delete(ctx context.Context, name string, uid types.UID) bool {
	background := metav1.DeletePropagationBackground
	err := r.job.Delete(ctx, r.key.Namespace, name, metav1.DeleteOptions{
		PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if client.IgnoreNotFound(err) != nil {
		r.Events.Event(r.cron, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return false
	}
	r.drop(uid)
	if err == nil {
		r.Events.Event(r.cron, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", name)
	}
	return true
}

// settle takes ended and vanished Jobs off the list of active ones.
func (r *round) settle(ctx context.Context) error {
	status := &r.cron.Status
	present := map[types.UID]bool{}
	for _, j := range r.jobs {
		present[j.UID] = true
		done, how := finished(j)
		if !done {
			continue
		}
		if active(r.cron, j.UID) {
			r.drop(j.UID)
			r.Events.Event(r.cron, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, how)
		}
		at := j.Status.CompletionTime
		if how == batchv1.JobComplete && at != nil && (status.LastSuccessfulTime == nil || at.After(status.LastSuccessfulTime.Time)) {
			status.LastSuccessfulTime = at.DeepCopy()
		}
	}
	for _, ref := range slices.Clone(status.Active) {
		if present[ref.UID] {
			continue
		}
		_, err := r.job.Get(ctx, r.key.Namespace, ref.Name) // the view may lag
		switch {
		case apierrors.IsNotFound(err):
			r.Events.Event(r.cron, corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
			r.drop(ref.UID)
		case err != nil:
			return err
		}
	}
	return nil
}

// start makes the Job that is due, and returns how long until the next one; 0 when time alone will not bring one.
func (r *round) start(ctx context.Context) (time.Duration, error) {
	if r.cron.DeletionTimestamp != nil {
		return 0, nil
	}
	if zone := r.cron.Spec.TimeZone; zone != nil {
		if _, err := time.LoadLocation(*zone); err != nil {
			r.Events.Event(r.cron, corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *zone, err)
			return 0, nil
		}
	}
	if r.cron.Spec.Suspend != nil && *r.cron.Spec.Suspend {
		return 0, nil
	}
	plan, err := schedule.Parse(r.schedule())
	if err != nil {
		r.Events.Event(r.cron, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", r.cron.Spec.Schedule, err)
		return 0, nil
	}
	due, missed, err := latest(r.earliest(), r.now, plan)
	if err != nil {
		r.Events.Event(r.cron, corev1.EventTypeWarning, "InvalidSchedule", "invalid schedule: %s : %s", r.cron.Spec.Schedule, err)
		return 0, nil
	}
	next := func() time.Duration { return r.untilNext(plan) }
	if due.IsZero() {
		return next(), nil
	}
	if missed > tooMany {
		r.Events.Event(r.cron, corev1.EventTypeWarning, "TooManyMissedTimes",
			"too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if limit := r.cron.Spec.StartingDeadlineSeconds; limit != nil && due.Add(time.Duration(*limit)*time.Second).Before(r.now) {
		r.Events.Event(r.cron, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return next(), nil
	}
	name := fmt.Sprintf("%s-%d", r.cron.Name, due.Unix()/60)
	started := slices.ContainsFunc(r.cron.Status.Active, func(ref corev1.ObjectReference) bool { return ref.Name == name })
	if last := r.cron.Status.LastScheduleTime; started || (last != nil && last.Time.Equal(due)) {
		return next(), nil
	}
	switch r.cron.Spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		if len(r.cron.Status.Active) > 0 {
			r.Events.Event(r.cron, corev1.EventTypeNormal, "JobAlreadyActive",
				"Not starting job because prior execution is running and concurrency policy is Forbid")
			return next(), nil
		}
	case batchv1.ReplaceConcurrent:
		for _, ref := range slices.Clone(r.cron.Status.Active) {
			if !r.delete(ctx, ref.Name, ref.UID) {
				return 0, fmt.Errorf("replace job %s of %s", ref.Name, r.key)
			}
		}
	case batchv1.AllowConcurrent:
	}
	return next(), r.create(ctx, name, due)
}

// schedule is the schedule with its time zone in front.
func (r *round) schedule() string {
	text := r.cron.Spec.Schedule
	if strings.Contains(text, "TZ") {
		r.Events.Event(r.cron, corev1.EventTypeWarning, "UnsupportedSchedule", "CRON_TZ or TZ used in schedule %q is not officially supported, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", text)
		return text
	}
	if r.cron.Spec.TimeZone != nil {
		return "TZ=" + *r.cron.Spec.TimeZone + " " + text
	}
	return text
}

// create makes the Job of one due time. Its name is that time, so that it is never made twice.
func (r *round) create(ctx context.Context, name string, due time.Time) error {
	template := r.cron.Spec.JobTemplate.DeepCopy()
	made := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.key.Namespace, Name: name, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.cron, kind)},
		},
		Spec: template.Spec,
	}
	if made.Annotations == nil {
		made.Annotations = map[string]string{}
	}
	zone := time.UTC
	if r.cron.Spec.TimeZone != nil {
		if at, err := time.LoadLocation(*r.cron.Spec.TimeZone); err == nil {
			zone = at
		}
	}
	made.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = due.In(zone).Format(time.RFC3339)
	created, err := r.job.Create(ctx, made)
	switch {
	case apierrors.IsAlreadyExists(err):
		// Made in an earlier attempt whose status was not written, or by somebody else, whose affair it is.
		if created, err = r.job.Get(ctx, r.key.Namespace, name); err != nil {
			return err
		}
		if !metav1.IsControlledBy(created, r.cron) || active(r.cron, created.UID) {
			return nil
		}
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return reconcile.Terminal(err)
	case err != nil:
		r.Events.Event(r.cron, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return err
	default:
		r.Events.Event(r.cron, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", created.Name)
	}
	at := metav1.NewTime(due)
	r.cron.Status.LastScheduleTime = &at
	if done, _ := finished(created); !done {
		r.cron.Status.Active = append(r.cron.Status.Active, corev1.ObjectReference{
			APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Namespace: created.Namespace, Name: created.Name, UID: created.UID,
			ResourceVersion: created.ResourceVersion,
		})
	}
	return nil
}
