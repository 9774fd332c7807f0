// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package table turns the rounds of a benchmark into rows: medians on both sides, their quotient, and how far it spreads.
package table

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The two sides.
const (
	Kogge    = "kogge"
	Upstream = "upstream"
)

// Measure is one number of one round.
type Measure struct {
	// Case and Name say what was measured: "patch 10 KB pod", "CPU µs/op".
	Case, Name string
	Value      float64
	// More tells that more is better; otherwise less is.
	More bool
}

// Round is what one start of one system gave.
type Round struct {
	System   string
	Measures []Measure
	// Facts must be the same in every round of both systems; where one differs, the rows of its case are void.
	// Each is named CASE or CASE/DETAIL.
	Facts map[string]string
	// Notes are for the reader of the round.
	Notes []string `json:",omitempty"`
	// Failed says why the round gave nothing or stopped early; the cases that it did not reach have no row.
	Failed string
}

// Row compares the two sides in one measure.
type Row struct {
	Benchmark, Case, Name string
	Kogge, Upstream       float64
	// Ratio is the median of all quotients of a round of kogge and a round of upstream; Low and High are the least and the greatest. NaN where
	// there is no quotient.
	Ratio, Low, High float64
	// Order tells whether all of kogge's values are below upstream's (-1), above (1), or neither (0).
	Order  int
	More   bool
	Rounds [2]int
	// Void says why the row does not count.
	Void string
}

// Rows compares rounds, in the order in which the measures first came.
func Rows(benchmark string, rounds []Round) []Row {
	void := disagreements(rounds)
	type key struct{ c, name string }
	values := map[key]map[string][]float64{}
	var order []Measure
	for _, r := range rounds {
		for _, m := range r.Measures {
			k := key{m.Case, m.Name}
			if values[k] == nil {
				values[k] = map[string][]float64{}
				order = append(order, m)
			}
			values[k][r.System] = append(values[k][r.System], m.Value)
		}
	}
	var out []Row
	for _, m := range order {
		v := values[key{m.Case, m.Name}]
		ours, theirs := v[Kogge], v[Upstream]
		row := Row{
			Benchmark: benchmark, Case: m.Case, Name: m.Name, More: m.More, Kogge: Median(ours), Upstream: Median(theirs),
			Rounds: [2]int{len(ours), len(theirs)}, Void: void[m.Case],
		}
		row.Ratio, row.Low, row.High = quotients(ours, theirs)
		if len(ours) > 0 && len(theirs) > 0 {
			row.Order = compare(ours, theirs)
		}
		out = append(out, row)
	}
	return out
}

// disagreements finds the cases in which a fact is not the same everywhere.
func disagreements(rounds []Round) map[string]string {
	seen, void := map[string]string{}, map[string]string{}
	for _, r := range rounds {
		for name, fact := range r.Facts {
			first, known := seen[name]
			if !known {
				seen[name] = fact
			} else if first != fact {
				c, detail, _ := strings.Cut(name, "/")
				void[c] = strings.TrimSpace("answers differ: " + detail)
			}
		}
	}
	return void
}

// Median of values; NaN if there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// quotients of all pairs; NaN where one is no quantity to divide by: without a quotient it is the ranges that are compared.
func quotients(a, b []float64) (median, low, high float64) {
	var all []float64
	for _, x := range a {
		for _, y := range b {
			if x < 0 || y <= 0 {
				return math.NaN(), math.NaN(), math.NaN()
			}
			all = append(all, x/y)
		}
	}
	if len(all) == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	return Median(all), slices.Min(all), slices.Max(all)
}

// compare tells, by all pairs of rounds, whether kogge's values are below upstream's (-1), above (1), or neither (0).
func compare(ours, theirs []float64) int {
	switch {
	case slices.Max(ours) < slices.Min(theirs):
		return -1
	case slices.Min(ours) > slices.Max(theirs):
		return 1
	default:
		return 0
	}
}

// Verdict says who was better, judged by the whole spread.
func (r Row) Verdict() string {
	switch {
	case r.Void != "":
		return "void: " + r.Void
	case r.Rounds[0] == 0 || r.Rounds[1] == 0:
		return "one side only"
	case r.Order == 0:
		return "even"
	case (r.Order > 0) == r.More:
		return "better"
	default:
		return "worse"
	}
}

// Write writes rows as one Markdown table.
func Write(w io.Writer, rows []Row) error {
	if _, err := fmt.Fprintln(w, "| benchmark | case | measure | kogge | upstream | kogge : upstream | spread | rounds | kogge is |\n|---|---|---|---|---|---|---|---|---|"); err != nil {
		return err
	}
	for _, r := range rows {
		ratio, spread := "", ""
		if !math.IsNaN(r.Ratio) {
			ratio, spread = number(r.Ratio), number(r.Low)+" to "+number(r.High)
		}
		if _, err := fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %d, %d | %s |\n", r.Benchmark, r.Case, r.Name, number(r.Kogge), number(r.Upstream),
			ratio, spread, r.Rounds[0], r.Rounds[1], r.Verdict()); err != nil {
			return err
		}
	}
	return nil
}

// number prints three digits that count.
func number(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	digits := 0
	if v != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	return strconv.FormatFloat(v, 'f', min(digits, 4), 64)
}

// Failures lists why rounds failed, for the reader of the table.
func Failures(benchmark string, rounds []Round) []string {
	count := map[string]int{}
	for _, r := range rounds {
		if r.Failed != "" {
			first, _, _ := strings.Cut(r.Failed, "\n")
			count[r.System+": "+first]++
		}
	}
	var out []string
	for _, text := range slices.SortedFunc(maps.Keys(count), cmp.Compare[string]) {
		out = append(out, fmt.Sprintf("%s, %s (rounds: %d)", benchmark, text, count[text]))
	}
	return out
}
