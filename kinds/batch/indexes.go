// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// interval is a run of completion indexes, both ends included.
type interval struct{ first, last int32 }

// parseIndexes reads the text form of a set of completion indexes: "1,3-5,7". Numbers must grow and stay below completions.
func parseIndexes(text string, completions int32) ([]interval, error) {
	if text == "" {
		return nil, nil
	}
	var out []interval
	for fragment := range strings.SplitSeq(text, ",") {
		next, err := parseInterval(fragment, completions)
		if err != nil {
			return nil, err
		}
		if n := len(out); n > 0 && out[n-1].last >= next.first {
			return nil, fmt.Errorf("non-increasing order, previous: %d, current: %d", out[n-1].last, next.first)
		}
		out = append(out, next)
	}
	return out, nil
}

func parseInterval(fragment string, completions int32) (interval, error) {
	ends := strings.Split(fragment, "-")
	if len(ends) > 2 {
		return interval{}, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", fragment)
	}
	first, err := parseIndex(ends[0], completions)
	if err != nil || len(ends) == 1 {
		return interval{first, first}, err
	}
	last, err := parseIndex(ends[1], completions)
	if err != nil {
		return interval{}, err
	}
	if first >= last {
		return interval{}, fmt.Errorf("non-increasing order, previous: %d, current: %d", first, last)
	}
	return interval{first, last}, nil
}

func parseIndex(text string, completions int32) (int32, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("cannot convert string to integer for index: %q", text)
	}
	if n >= int(completions) {
		return 0, fmt.Errorf("too large index: %q", text)
	}
	return int32(n), nil // below completions, an int32
}

// total counts the indexes of intervals.
func total(intervals []interval) int32 {
	var n int32
	for _, i := range intervals {
		n += i.last - i.first + 1
	}
	return n
}

// overlap returns the first index that two sets share. Fragments that can't be read are passed over: they are refused
// elsewhere.
func overlap(completed, failed string, completions int32) (int32, bool) {
	a, b := readable(completed, completions), readable(failed, completions)
	for len(a) > 0 && len(b) > 0 {
		if a[0].first <= b[0].last && b[0].first <= a[0].last {
			return max(a[0].first, b[0].first), true
		}
		if a[0].first <= b[0].first {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return 0, false
}

func readable(text string, completions int32) []interval {
	var out []interval
	for fragment := range strings.SplitSeq(text, ",") {
		if i, err := parseInterval(fragment, completions); err == nil {
			out = append(out, i)
		}
	}
	return out
}
