// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podautoscaler

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Bounds of scaling without behavior, upstream's defaults.
const (
	downWindow    = 5 * time.Minute // the highest wish of so long counts before there are fewer
	upFactor      = 2
	upAtLeast     = 4
	forgetChanges = 31 * time.Minute // longer than any period that a policy may have
)

// history is what was wished and done for one autoscaler. It is lost with the process, as upstream's is.
type history struct {
	wishes    []event // replicas as the metrics asked for them
	ups, down []event // how many were added and taken away
}

type event struct {
	n  int32
	at time.Time
}

// verdict is a number of replicas and why it is not another.
type verdict struct {
	replicas int32
	// reason and message explain replicas; limited is set if they are not what was asked for.
	reason, message string
	limited         bool
}

// begin notes the size at which the autoscaler met its target.
func (h *history) begin(current int32, now time.Time) {
	if h.wishes == nil {
		h.wishes = []event{{current, now}}
	}
}

// changed notes a change that was made.
func (h *history) changed(from, to int32, now time.Time) {
	if to > from {
		h.ups = append(recent(h.ups, now.Add(-forgetChanges)), event{to - from, now})
	} else {
		h.down = append(recent(h.down, now.Add(-forgetChanges)), event{from - to, now})
	}
}

func recent(list []event, since time.Time) []event {
	return slices.DeleteFunc(list, func(e event) bool { return e.at.Before(since) })
}

// note takes in a wish and returns the lowest within the window of scaling up, and the highest within that of scaling down.
func (h *history) note(wish int32, up, down time.Duration, now time.Time) (lowest, highest int32) {
	lowest, highest = wish, wish
	for _, w := range h.wishes {
		if w.at.After(now.Add(-up)) {
			lowest = min(lowest, w.n)
		}
		if w.at.After(now.Add(-down)) {
			highest = max(highest, w.n)
		}
	}
	h.wishes = append(recent(h.wishes, now.Add(-max(up, down, downWindow))), event{wish, now})
	return lowest, highest
}

// stabilized explains a wish that was held back by earlier ones, or not.
func stabilized(current, wish, replicas int32) verdict {
	switch {
	case replicas == wish:
		return verdict{replicas, "ReadyForNewScale", "recommended size matches current size", false}
	case wish >= current && replicas < wish:
		return verdict{replicas, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation", true}
	}
	return verdict{replicas, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation", true}
}

// pace applies windows, bounds and rates to what metrics wish for. It returns the stabilized verdict, and the limited one that counts.
func (h *history) pace(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, current, wish, least, most int32, now time.Time) (stable, final verdict) {
	up, down := time.Duration(0), downWindow
	if behavior != nil {
		up, down = window(behavior.ScaleUp, up), window(behavior.ScaleDown, down)
	}
	lowest, highest := h.note(wish, up, down, now)
	if behavior != nil {
		// Fewer only if nothing wished for more within the one window, more only if nothing wished for fewer within the other.
		stable = stabilized(current, wish, min(max(current, lowest), highest))
		return stable, h.limit(behavior, current, stable.replicas, least, most, now)
	}
	stable = stabilized(current, wish, highest)
	final = verdict{replicas: stable.replicas, reason: "DesiredWithinRange", message: "the desired count is within the acceptable range"}
	bound, reason, message := most, "TooManyReplicas", tooMany
	if step := max(upFactor*current, upAtLeast); most > step {
		bound, reason, message = step, "ScaleUpLimit", tooFast
	}
	switch {
	case final.replicas < least:
		final = verdict{least, "TooFewReplicas", tooFew, true}
	case final.replicas > bound:
		final = verdict{bound, reason, message, true}
	}
	return stable, final
}

func window(rules *autoscalingv2.HPAScalingRules, otherwise time.Duration) time.Duration {
	if rules == nil || rules.StabilizationWindowSeconds == nil {
		return otherwise
	}
	return time.Duration(*rules.StabilizationWindowSeconds) * time.Second
}

// Messages of the condition ScalingLimited.
const (
	tooMany = "the desired replica count is more than the maximum replica count"
	tooFew  = "the desired replica count is less than the minimum replica count"
	tooFast = "the desired replica count is increasing faster than the maximum scale rate"
	tooSlow = "the desired replica count is decreasing faster than the maximum scale rate"
)

// limit applies the policies of a behavior.
func (h *history) limit(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, current, wish, least, most int32, now time.Time) verdict {
	switch {
	case wish > current:
		step := max(h.furthest(behavior.ScaleUp, current, math.MaxInt32, now), current)
		bound := verdict{most, "TooManyReplicas", tooMany, true}
		if most > step {
			bound = verdict{step, "ScaleUpLimit", tooFast, true}
		}
		if wish > bound.replicas {
			return bound
		}
	case wish < current:
		step := min(h.furthest(behavior.ScaleDown, current, math.MinInt32, now), current)
		bound := verdict{least, "TooFewReplicas", tooFew, true}
		if least < step {
			bound = verdict{step, "ScaleDownLimit", tooSlow, true}
		}
		if wish < bound.replicas {
			return bound
		}
	}
	return verdict{replicas: wish, reason: "DesiredWithinRange", message: "the desired count is within the acceptable range"}
}

// furthest returns how far rules let the size go now, upwards if towards is positive. Each policy counts from the size at the
// beginning of its period.
func (h *history) furthest(rules *autoscalingv2.HPAScalingRules, current, towards int32, now time.Time) int32 {
	if rules == nil || len(rules.Policies) == 0 {
		return towards
	}
	choice := autoscalingv2.MaxChangePolicySelect
	if rules.SelectPolicy != nil {
		choice = *rules.SelectPolicy
	}
	if choice == autoscalingv2.DisabledPolicySelect {
		return current
	}
	var steps []int32
	for _, p := range rules.Policies {
		since := now.Add(-time.Duration(p.PeriodSeconds) * time.Second)
		start := current - sum(h.ups, since) + sum(h.down, since)
		change, percent := p.Value, float64(p.Value)/100
		if towards < 0 {
			change, percent = -change, -percent
		}
		switch {
		case p.Type == autoscalingv2.PodsScalingPolicy:
			steps = append(steps, start+change)
		case towards > 0:
			steps = append(steps, ceil(float64(start)*(1+percent))) // upwards, so that a small size can grow at all
		default:
			steps = append(steps, int32(float64(start)*(1+percent)))
		}
	}
	if (choice == autoscalingv2.MaxChangePolicySelect) == (towards > 0) {
		return slices.Max(steps)
	}
	return slices.Min(steps)
}

func sum(list []event, since time.Time) int32 {
	total := int32(0)
	for _, e := range list {
		if e.at.After(since) {
			total += e.n
		}
	}
	return total
}
