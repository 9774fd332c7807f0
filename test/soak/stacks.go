// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// grown says which stacks have more goroutines in the second of two profiles (goroutine?debug=1), the most first, with the innermost frames.
func grown(before, after string) (string, error) {
	old, err := stacksOf(before)
	if err != nil {
		return "", err
	}
	now, err := stacksOf(after)
	if err != nil {
		return "", err
	}
	var more []string
	for stack, n := range now {
		if n > old[stack] {
			more = append(more, stack)
		}
	}
	slices.SortFunc(more, func(a, b string) int { return cmp.Or(cmp.Compare(now[b]-old[b], now[a]-old[a]), cmp.Compare(a, b)) })
	var out strings.Builder
	for _, stack := range more[:min(len(more), 10)] {
		fmt.Fprintf(&out, "%d goroutines more (%d):\n%s", now[stack]-old[stack], now[stack], stack)
	}
	return out.String(), nil
}

// framesShown is how much of a stack tells it from others.
const framesShown = 8

// stacksOf counts the goroutines of a profile by their frames. A group of the profile is a line "COUNT @ ADDRESSES" and lines
// "#	ADDRESS	FUNCTION+OFFSET	FILE:LINE".
func stacksOf(path string) (map[string]int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	stacks := map[string]int{}
	for group := range strings.SplitSeq(string(text), "\n\n") {
		n, frames := 0, []string{}
		for line := range strings.Lines(group) {
			if number, _, ok := strings.Cut(line, " @ "); ok {
				n, _ = strconv.Atoi(number) // it begins a group
			}
			if fields := strings.Fields(line); len(fields) >= 4 && fields[0] == "#" && len(frames) < framesShown {
				function, _, _ := strings.Cut(fields[2], "+0x")
				frames = append(frames, fmt.Sprintf("  %s %s\n", function, fields[3]))
			}
		}
		if n > 0 {
			stacks[strings.Join(frames, "")] += n
		}
	}
	return stacks, nil
}
