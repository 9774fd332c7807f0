// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// quantity is one number of a reading, and what it is held to.
type quantity struct {
	name string
	of   func(reading) float64
	bound
}

// bound is what a quantity is held to.
type bound struct {
	// slack is by how much it may be higher at the second mark than it was at the first; negative: it is not judged so.
	slack float64
	// climb is by how much it may grow in an hour of churn, by its second half; 0: it is not judged so.
	climb float64
	// marked says that it is read at the marks only.
	marked bool
	// long says that only a long churn says something about it.
	long bool
	// rare says that it may never be seen above zero.
	rare bool
}

// returns is the bound of what must come back, but for some slack.
func returns(slack float64) bound { return bound{slack: slack} }

// climbs is the bound of memory, in MiB an hour.
func climbs(perHour float64) bound { return bound{slack: -1, climb: perHour, long: true} }

// shown is judged by the reader.
var shown = bound{slack: -1}

const mebi = 1 << 20

// Idle connections and timers come and go, so that descriptors and goroutines are not the same at any two moments.
const (
	slackDescriptors = 5
	slackGoroutines  = 10
)

// slackHeap is in MiB: what the watch caches remember of the last minutes, and buffers that grew, differ between the marks.
const slackHeap = 16

// Anonymous memory is judged by its slope, since a garbage collector and an allocator never give all of it back. What is made and removed here in an
// hour, thousands of pods and ten thousands of other objects, would leave more than this if it left anything.
const (
	climbKogge      = 64.
	climbContainerd = 32.
)

// judgedFrom is the shortest churn from which memory is judged: before that, caches that are bounded by size, and histories that are bounded
// by time (etcd's, by five to ten minutes of revisions) still fill.
const judgedFrom = 20 * time.Minute

// quantities are all that is measured.
var quantities = []quantity{
	{"kogge: resident MiB", func(r reading) float64 { return float64(r.kogge.resident) / mebi }, shown},
	{"kogge: anonymous MiB", func(r reading) float64 { return float64(r.kogge.anonymous) / mebi }, climbs(climbKogge)},
	{"kogge: live heap MiB", func(r reading) float64 { return float64(r.heap) / mebi }, bound{slack: slackHeap, marked: true, long: true}},
	{"containerd: resident MiB", func(r reading) float64 { return float64(r.containerd.resident) / mebi }, shown},
	{"containerd: anonymous MiB", func(r reading) float64 { return float64(r.containerd.anonymous) / mebi }, climbs(climbContainerd)},
	{"shims: resident MiB", func(r reading) float64 { return float64(r.shims.resident) / mebi }, shown},
	{"kogge: descriptors", func(r reading) float64 { return float64(r.kogge.descriptors) }, returns(slackDescriptors)},
	{"containerd: descriptors", func(r reading) float64 { return float64(r.containerd.descriptors) }, returns(slackDescriptors)},
	{"shims: descriptors", func(r reading) float64 { return float64(r.shims.descriptors) }, returns(0)},
	{"kogge: goroutines", func(r reading) float64 { return float64(r.goroutines) }, returns(slackGoroutines)},
	{"kogge: threads", func(r reading) float64 { return float64(r.kogge.threads) }, shown},
	{"containerd: threads", func(r reading) float64 { return float64(r.containerd.threads) }, shown},
	{"shims", func(r reading) float64 { return float64(r.shims.processes) }, returns(0)},
	{"processes in pods", func(r reading) float64 { return float64(r.podProcesses) }, returns(0)},
	{"helper processes", func(r reading) float64 { return float64(r.helpers) }, bound{rare: true}},
	{"zombies", func(r reading) float64 { return float64(r.zombies) }, bound{rare: true}},
	{"mounts", func(r reading) float64 { return float64(r.mounts) }, returns(0)},
	{"network namespaces", func(r reading) float64 { return float64(r.namespaces) }, returns(0)},
	{"network interfaces", func(r reading) float64 { return float64(r.links) }, returns(0)},
	{"cgroups", func(r reading) float64 { return float64(r.cgroups) }, returns(0)},
	{"nftables rules, elements", func(r reading) float64 { return float64(r.rules) }, returns(0)},
	{"folders of pods", func(r reading) float64 { return float64(r.folders) }, returns(0)},
	{"snapshots", func(r reading) float64 { return float64(r.snapshots) }, returns(0)},
}

// sample is a reading and when it was taken.
type sample struct {
	at time.Time
	reading
}

// slope is how much a quantity grows in an hour, by least squares over the samples; NaN if they are fewer than two.
func slope(samples []sample, of func(reading) float64) float64 {
	var n, sumX, sumY, sumXX, sumXY float64
	for _, s := range samples {
		x, y := s.at.Sub(samples[0].at).Hours(), of(s.reading)
		n, sumX, sumY, sumXX, sumXY = n+1, sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
	}
	if spread := n*sumXX - sumX*sumX; n > 1 && spread > 0 {
		return (n*sumXY - sumX*sumY) / spread
	}
	return math.NaN()
}

// returned reports whether everything that is counted is back to what it was, but for its slack.
func returned(before, now reading) bool {
	for _, q := range quantities {
		if !q.long && q.slack >= 0 && q.of(now) > q.of(before)+q.slack {
			return false
		}
	}
	return true
}

// verdict says what is wrong with a quantity; empty if nothing is. churned is how long the samples span.
func (q quantity) verdict(before, after, perHour float64, churned time.Duration) string {
	switch {
	case q.long && churned < judgedFrom:
	case q.slack >= 0 && after > before+q.slack:
		return fmt.Sprintf("did not come back (%g may remain)", q.slack)
	case q.climb > 0 && perHour > q.climb:
		return fmt.Sprintf("climbs (%g an hour may be)", q.climb)
	}
	return ""
}

// secondHalf are the samples of the second half of the time: by then, caches are as full as they get.
func secondHalf(samples []sample) []sample {
	if len(samples) == 0 {
		return nil
	}
	first, last := samples[0].at, samples[len(samples)-1].at
	i := slices.IndexFunc(samples, func(s sample) bool { return s.at.Sub(first) >= last.Sub(first)/2 })
	return samples[i:]
}

// table is the result: all quantities at both marks with their slopes between, and the names of those that are over their bounds, or, where
// every actor played, were never seen: what is looked for in the wrong place comes back as well.
func table(before, after reading, samples []sample, everything bool) (text string, failed []string) {
	var churned time.Duration
	if len(samples) > 0 {
		churned = samples[len(samples)-1].at.Sub(samples[0].at)
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "QUANTITY\tAFTER WARM-UP\tHIGHEST\tAT THE END\tSLOPE/H\tVERDICT")
	for _, q := range quantities {
		first, last, perHour := q.of(before), q.of(after), slope(secondHalf(samples), q.of)
		highest := max(first, last)
		growth := fmt.Sprintf("%+.3g", perHour)
		if q.marked {
			growth = ""
		}
		for _, s := range samples {
			highest = max(highest, q.of(s.reading))
		}
		verdict := q.verdict(first, last, perHour, churned)
		if everything && highest == 0 && !q.rare {
			verdict = "never seen"
		}
		switch {
		case verdict != "":
			failed = append(failed, q.name)
		case q.long && churned < judgedFrom:
			verdict = fmt.Sprintf("too short to judge (from %v)", judgedFrom)
		case q.climb > 0 || q.slack >= 0:
			verdict = "ok"
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.4g\t%s\t%s\n", q.name, first, highest, last, growth, verdict)
	}
	_ = w.Flush() // into memory
	return out.String(), failed
}
