// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import "testing"

// BenchmarkFirstStart is a new cluster in memory, from nothing to ready.
func BenchmarkFirstStart(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newPlane(b)
	}
}
