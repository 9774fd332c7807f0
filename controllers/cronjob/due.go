// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cronjob

import (
	"errors"
	"time"

	"kogge.dev/kogge/kinds/batch/schedule"
)

// tooMany missed starts are worth a warning: a clock may be wrong.
const tooMany = 100

// since is what the next start follows: the last one, or the CronJob's creation.
func (r *round) since() time.Time {
	if r.cron.Status.LastScheduleTime != nil {
		return r.cron.Status.LastScheduleTime.Time
	}
	return r.cron.CreationTimestamp.Time
}

// earliest is since, or the deadline before which nothing is started any more.
func (r *round) earliest() time.Time {
	from := r.since()
	if limit := r.cron.Spec.StartingDeadlineSeconds; limit != nil {
		if at := r.now.Add(-time.Duration(*limit) * time.Second); at.After(from) {
			return at
		}
	}
	return from
}

// latest returns the last time after from and up to now at which the schedule is due, zero when there is none, and about
// how many there were. It does not walk through them: after a long pause there may be millions.
func latest(from, now time.Time, plan *schedule.Schedule) (due time.Time, missed int64, err error) {
	first := plan.Next(from)
	second := plan.Next(first)
	switch {
	case now.Before(first):
		return time.Time{}, 0, nil
	case now.Before(second):
		return first, 0, nil
	}
	step := second.Sub(first).Round(time.Second)
	if first.IsZero() || step < time.Second {
		return time.Time{}, 0, errors.New("time difference between two schedules is less than 1 second")
	}
	missed = int64(now.Sub(first)/step) + 1
	for at := plan.Next(first.Add(time.Duration(missed-2) * step)); !at.After(now) && !at.IsZero(); at = plan.Next(at) {
		due = at
	}
	return due, missed, nil
}

// untilNext is how long until the schedule is due again.
func (r *round) untilNext(plan *schedule.Schedule) time.Duration {
	from := r.since()
	due, missed, err := latest(from, r.now, plan)
	switch {
	case err != nil, due.IsZero() && missed > 0:
		from = r.now
	case !due.IsZero():
		from = due
	}
	return max(plan.Next(from).Add(padding).Sub(r.now), padding)
}
