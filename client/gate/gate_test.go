// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"strconv"
	"testing"
	"time"
)

// TestTrim holds how full a cache may be: expired answers go first.
func TestTrim(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name                 string
		valid, expired, want int
	}{
		{"there is room", 1, maxKnown - 2, maxKnown - 1},
		{"some are expired", 1, maxKnown - 1, 1},
		{"none is expired", maxKnown, 0, 0},
	} {
		known := map[knownQuestion]answer{}
		for i := range c.valid + c.expired {
			a := answer{until: now.Add(time.Second)}
			if i < c.expired {
				a.until = now
			}
			known[knownQuestion{user: strconv.Itoa(i)}] = a
		}
		trimLocked(known, now)
		if len(known) != c.want {
			t.Errorf("%s: %d answers are left, want %d", c.name, len(known), c.want)
		}
	}
}
