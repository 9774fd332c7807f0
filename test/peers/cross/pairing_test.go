// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestEachPairingHasOneOddComponent(t *testing.T) {
	all := []component{controllers, scheduler, kubelet, proxy}
	for _, p := range pairings {
		foreign := 0
		for _, c := range all {
			if p.foreign(c) {
				foreign++
			}
		}
		want := 3
		if p.ours {
			want = 1
		}
		if foreign != want {
			t.Errorf("%s: %d components are upstream's, want %d", p.name(), foreign, want)
		}
		if again, err := named(p.name()); err != nil || again != p {
			t.Errorf("named(%s) = %v, %v", p.name(), again, err)
		}
	}
}

func TestEachAreaHasThirtyTests(t *testing.T) {
	for _, c := range []component{controllers, scheduler, kubelet, proxy} {
		names, err := tests(c)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		if got := len(slices.Compact(names)); got != 30 {
			t.Errorf("%s has %d tests", c, got)
		}
	}
}

func TestJudge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	text := `[{"SpecReports": [
{"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "should run", "LeafNodeType": "It", "State": "passed"},
{"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "should end", "LeafNodeType": "It", "State": "timedout"},
{"LeafNodeText": "should wait", "LeafNodeType": "It", "State": "skipped"}]}]`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	passed, failed, err := judge(path)
	if err != nil || passed != 1 || !slices.Equal(failed, []string{"[sig-node] Pods should end"}) {
		t.Errorf("judge = %d, %v, %v", passed, failed, err)
	}
}
