// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Lists of tests, one name a line, sorted. Empty lines and lines that begin with # are comments.
const (
	// passingList holds every test that has ever passed; it only grows.
	passingList = "passing.txt"
	// flakyList holds tests that fail now and then, each with its suspected cause after a bar, until they are mended.
	flakyList = "flaky.txt"
	// guardList holds passing tests of every group in proportion, which together take minutes.
	guardList = "guard.txt"
)

func readList(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names, nil
}

// addToList adds lines to a list, in order, keeping its comments.
func addToList(path string, more []string) error {
	if len(more) == 0 {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var head, names []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") || line == "" {
			head = append(head, line)
		} else {
			names = append(names, line)
		}
	}
	names = append(names, more...)
	slices.Sort(names)
	return os.WriteFile(path, []byte(strings.Join(append(head, slices.Compact(names)...), "\n")+"\n"), 0o644)
}

// flaky is the name in a line of flaky.txt.
func flaky(line string) string {
	name, _, _ := strings.Cut(line, " | ")
	return name
}

// draw takes count of the names, as the seed decides: for one seed always the same ones.
func draw(names []string, seed string, count int) []string {
	digest := func(name string) []byte {
		sum := sha256.Sum256([]byte(seed + "\n" + name))
		return sum[:]
	}
	drawn := slices.Clone(names)
	slices.SortFunc(drawn, func(a, b string) int { return bytes.Compare(digest(a), digest(b)) })
	return drawn[:min(count, len(drawn))]
}

// drawnTests is how many tests a guard run adds to its list.
const drawnTests = 15

// guardTests are the tests of guard.txt, and some others that have passed, which differ from commit to commit. Tests that
// their authors call slow or disruptive are not drawn: the guard has minutes.
func guardTests(o options, commit string) ([]string, error) {
	guard, err := readList(o.list(guardList))
	if err != nil {
		return nil, err
	}
	if len(guard) == 0 {
		return nil, fmt.Errorf("%s names no test", o.list(guardList))
	}
	passing, err := readList(o.list(passingList))
	if err != nil {
		return nil, err
	}
	known, err := readList(o.list(flakyList))
	if err != nil {
		return nil, err
	}
	rest := slices.DeleteFunc(passing, func(name string) bool {
		return slices.Contains(guard, name) || strings.Contains(name, "[Slow]") || strings.Contains(name, "[Disruptive]") ||
			slices.ContainsFunc(known, func(line string) bool { return flaky(line) == name })
	})
	return append(guard, draw(rest, commit, drawnTests)...), nil
}
