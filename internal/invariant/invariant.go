// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package invariant is the one place that panics: it states what must hold, and stops the process where it does not.
// Checks that cost much are guarded by Enabled, which is a constant of the build (tag "invariants").
package invariant

import "fmt"

// Check panics with the formatted message when cond is false. It is for conditions that no input and no failure of the
// environment can break, only a bug.
func Check(cond bool, format string, args ...any) {
	if !cond {
		panic("broken invariant: " + fmt.Sprintf(format, args...))
	}
}
