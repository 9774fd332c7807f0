// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import "slices"

// Direction tells which scores are good.
type Direction int

// Directions of a raw score.
const (
	HighestIsBest Direction = iota
	LowestIsBest
)

// Scale brings raw scores, none negative, to 0..MaxScore in proportion to the highest.
func Scale(scores []int64, d Direction) {
	if len(scores) == 0 {
		return
	}
	most := slices.Max(scores)
	for i := range scores {
		switch {
		case most == 0 && d == LowestIsBest:
			scores[i] = MaxScore
		case most == 0:
		default:
			scores[i] = scores[i] * MaxScore / most
			if d == LowestIsBest {
				scores[i] = MaxScore - scores[i]
			}
		}
	}
}
