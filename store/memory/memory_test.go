// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"fmt"
	"testing"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
	"kogge.dev/kogge/store/storetest"
)

func open(*testing.T) store.Store { return memory.New() }

func TestConformance(t *testing.T) {
	storetest.Suite{Open: open, Timeless: true}.Run(t)
}

func TestConformanceInBubble(t *testing.T) {
	storetest.Suite{Open: open, Bubble: true}.Run(t)
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		memory.New()
	}
}

func BenchmarkWrite(b *testing.B) {
	b.ReportAllocs()
	s := memory.New()
	value := make([]byte, 1024)
	n := 0
	for b.Loop() {
		if _, err := s.Create(b.Context(), fmt.Sprintf("/registry/pods/%d", n), value, store.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
