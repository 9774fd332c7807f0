// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nodelifecycle

import (
	"fmt"
	"testing"
	"time"
)

func TestPaceOfAZone(t *testing.T) {
	tests := []struct {
		name           string
		ready, unready int
		want           time.Duration
	}{
		{"healthy", 10, 0, evictionPause},
		{"two may always be not ready", 1, 2, evictionPause},
		{"most of a small zone", 2, 3, never},
		{"most of a large zone", 20, 40, slowPause},
		{"less than most", 5, 4, evictionPause},
		{"all, while other zones live", 0, 5, evictionPause},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			z := newZones()
			for i := range test.ready + test.unready {
				z.put(fmt.Sprint(i), member{zone: "a", ready: i < test.ready})
			}
			if got := z.counts["a"].pause(); got != test.want {
				t.Errorf("pause = %v, want %v", got, test.want)
			}
		})
	}
}

// TestZones follows two zones of which one dies, then the other, then comes back.
func TestZones(t *testing.T) {
	z, now := newZones(), time.Unix(1_700_000_000, 0)
	for _, name := range []string{"a1", "a2", "b1"} {
		z.put(name, member{zone: name[:1], ready: true})
	}
	z.put("a1", member{zone: "a"})
	if z.put("a2", member{zone: "a"}) || z.halted() {
		t.Error("one dead zone changes the pace")
	}
	if ok, _ := z.take("a", now); !ok {
		t.Error("first node is refused")
	}
	if ok, wait := z.take("a", now.Add(4*time.Second)); ok || wait != 6*time.Second {
		t.Errorf("second node: %v, wait %v, want 6s", ok, wait)
	}
	if ok, _ := z.take("a", now.Add(evictionPause)); !ok {
		t.Error("second node is refused after the pause")
	}
	if !z.put("b1", member{zone: "b"}) || !z.halted() {
		t.Error("with all zones dead it goes on")
	}
	if !z.drop("b1") && z.halted() == false {
		t.Error("a zone without nodes counts")
	}
	if !z.put("a1", member{zone: "a", ready: true}) || z.halted() {
		t.Error("it does not go on when a node is back")
	}
}
