// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package residency

import (
	"runtime"
	"testing"
)

// TestSampleLess unless somebody wants to know more.
func TestSampleLess(t *testing.T) {
	usual := runtime.MemProfileRate
	defer func() { runtime.MemProfileRate = usual }()
	t.Setenv("GODEBUG", "gctrace=0,memprofilerate=1")
	if SampleLess(); runtime.MemProfileRate != usual {
		t.Errorf("rate = %d though GODEBUG says it, want %d", runtime.MemProfileRate, usual)
	}
	t.Setenv("GODEBUG", "gctrace=0")
	if SampleLess(); runtime.MemProfileRate != sampled {
		t.Errorf("rate = %d, want %d", runtime.MemProfileRate, sampled)
	}
}
