// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package queues

import "math"

// Claim is what one level may have and wants, in seats.
type Claim struct {
	// Min is kept whatever others want, Max never exceeded, Nominal what the level gets when all want more.
	Min, Nominal, Max int
	// Exempt levels take what they need.
	Exempt bool
	// Peak is the most that was asked for in the last period, Smooth the demand over some time.
	Peak   int
	Smooth float64
}

// floor is what a level keeps: of its nominal share, as much as it lately used.
func (c Claim) floor() float64 {
	if c.Exempt {
		return float64(max(c.Min, c.Peak))
	}
	return float64(max(c.Min, min(c.Nominal, c.Peak)))
}

// at is what a level gets when every level gets the same fraction of what it wants.
func (c Claim) at(fraction float64) float64 {
	wish := max(c.floor(), c.Smooth)
	return min(float64(c.Max), max(c.floor(), fraction*wish))
}

// Divide gives each claim its seats of a total, so that all get the same fraction of their wishes within their bounds
// (KEP-1040, "Dispatching"). Levels that nobody asks keep what they can lend.
func Divide(total int, claims []Claim) []int {
	left := float64(total)
	for _, c := range claims {
		if c.Exempt {
			left -= c.floor()
		}
	}
	sum := func(fraction float64) (seats float64) {
		for _, c := range claims {
			if !c.Exempt {
				seats += c.at(fraction)
			}
		}
		return seats
	}
	// The sum grows with the fraction: halve the interval until it does not matter.
	low, high := 0.0, 1.0
	for sum(high) < left && high < float64(total)*2 {
		high *= 2
	}
	for range 40 {
		if middle := (low + high) / 2; sum(middle) > left {
			high = middle
		} else {
			low = middle
		}
	}
	out := make([]int, len(claims))
	for i, c := range claims {
		switch {
		case c.Exempt:
			out[i] = c.Nominal
		default:
			out[i] = max(int(math.Round(c.at(low))), 1)
		}
	}
	return out
}
