// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package residency

import (
	"os"
	"runtime"
	"strings"
)

// sampled is how many bytes are allocated for each one that heap profiles see.
const sampled = 16 << 20

// SampleLess has heap profiles see one part in thirty-two of what they see by themselves; it is called before anything else. The runtime keeps for ever what it
// knows of each stack that it has seen, a kilobyte of a deep one, and of those that walk over schemas hardly any is like another.
// GODEBUG=memprofilerate=N says otherwise.
func SampleLess() {
	if !strings.Contains(os.Getenv("GODEBUG"), "memprofilerate=") {
		runtime.MemProfileRate = sampled
	}
}
