// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package queues

import (
	"math"
	"time"
)

// demand is the number of seats that requests take or wait for, over a period of time.
type demand struct {
	began, since time.Time
	now, peak    int
	// sum and squares are integrals over time, in seat-seconds and seat²-seconds.
	sum, squares float64
}

func (d *demand) set(now time.Time, seats int) {
	span := now.Sub(d.since).Seconds()
	d.sum += span * float64(d.now)
	d.squares += span * float64(d.now) * float64(d.now)
	d.since, d.now, d.peak = now, seats, max(d.peak, seats)
}

// Demand is what a level was asked for over a period, in seats.
type Demand struct {
	Peak               int
	Average, Deviation float64
}

// Envelope is the demand that a level should be ready for.
func (d Demand) Envelope() float64 { return d.Average + d.Deviation }

// Demand ends the period and returns what it was.
func (l *Level) Demand(now time.Time) Demand {
	d := &l.demand
	d.set(now, d.now)
	out := Demand{Peak: d.peak, Average: float64(d.now)}
	if span := now.Sub(d.began).Seconds(); span > 0 {
		out.Average = d.sum / span
		out.Deviation = math.Sqrt(max(d.squares/span-out.Average*out.Average, 0))
	}
	*d = demand{began: now, since: now, now: d.now, peak: d.now}
	return out
}
