// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAddToListKeepsCommentsAndSorts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(path, []byte("# why\nb\nd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := addToList(path, []string{"c", "a", "b"}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "# why\na\nb\nc\nd\n" {
		t.Errorf("the list is %q, %v", text, err)
	}
	if names, err := readList(path); err != nil || !slices.Equal(names, []string{"a", "b", "c", "d"}) {
		t.Errorf("readList = %q, %v", names, err)
	}
}

func TestDrawDependsOnTheSeedOnly(t *testing.T) {
	names := strings.Split("abcdefghijklmnopqrstuvwxyz", "")
	first := draw(names, "one", 5)
	reversed := slices.Clone(names)
	slices.Reverse(reversed)
	if again := draw(reversed, "one", 5); !slices.Equal(first, again) {
		t.Errorf("draw = %q, then %q for another order of the same names", first, again)
	}
	if other := draw(names, "two", 5); slices.Equal(first, other) {
		t.Errorf("draw = %q for two seeds", first)
	}
	if few := draw(names[:2], "one", 5); len(few) != 2 {
		t.Errorf("draw of 5 from 2 = %q", few)
	}
}

func TestGuardDrawsWhatMayBeDrawn(t *testing.T) {
	o := options{root: t.TempDir()}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(o.list(""), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.list(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(guardList, "guarded\n")
	write(passingList, "free\nguarded\nsometimes\ntakes long [Slow]\n")
	write(flakyList, "sometimes | a race\n")
	names, err := guardTests(o, "commit")
	if want := []string{"guarded", "free"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("guardTests = %q, %v, want %q", names, err, want)
	}
}

// TestListsInTheTree holds the form of the lists: sorted, no name twice, and guard.txt of passing tests of every group.
func TestListsInTheTree(t *testing.T) {
	passing, err := readList(passingList)
	if err != nil {
		t.Fatal(err)
	}
	guard, err := readList(guardList)
	if err != nil {
		t.Fatal(err)
	}
	known, err := readList(flakyList)
	if err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]string{passingList: passing, guardList: guard, flakyList: known} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("%s is not sorted, or has a name twice", name)
		}
	}
	groups := map[string]bool{}
	for _, name := range guard {
		groups[sig(name)] = true
		if !slices.Contains(passing, name) {
			t.Errorf("%s holds a test that is not in %s: %s", guardList, passingList, name)
		}
	}
	for _, name := range passing {
		if !groups[sig(name)] {
			t.Errorf("%s has no test of %s", guardList, sig(name))
			groups[sig(name)] = true
		}
	}
	for _, line := range known {
		if _, cause, _ := strings.Cut(line, " | "); cause == "" {
			t.Errorf("%s: no suspected cause after a bar: %s", flakyList, line)
		}
	}
}
