// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package table

import (
	"math"
	"strings"
	"testing"
)

func rounds(system, name string, more bool, values ...float64) []Round {
	var out []Round
	for _, v := range values {
		out = append(out, Round{System: system, Measures: []Measure{{Case: "c", Name: name, Value: v, More: more}}})
	}
	return out
}

func TestRowComparesByTheWholeSpread(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ours, theirs []float64
		more         bool
		ratio        float64
		verdict      string
	}{
		{[]float64{1, 2, 3}, []float64{10, 20}, false, 0.125, "better"},
		{[]float64{1, 2, 3}, []float64{10, 20}, true, 0.125, "worse"},
		{[]float64{9, 12, 11}, []float64{10, 10}, false, 1.1, "even"},
		{[]float64{5}, nil, false, math.NaN(), "one side only"},
		{[]float64{5}, []float64{0}, false, math.NaN(), "worse"},
		{[]float64{0}, []float64{0}, false, math.NaN(), "even"},
		{[]float64{14.3}, []float64{-0.07}, false, math.NaN(), "worse"},
		{[]float64{0, 0.004}, []float64{0}, false, math.NaN(), "even"},
		{[]float64{0}, []float64{4}, false, 0, "better"},
	} {
		got := Rows("b", append(rounds(Kogge, "ms", test.more, test.ours...), rounds(Upstream, "ms", test.more, test.theirs...)...))
		if len(got) != 1 {
			t.Fatalf("Rows(%v, %v) = %v, want one row", test.ours, test.theirs, got)
		}
		same := math.Abs(got[0].Ratio-test.ratio) < 1e-9 || math.IsNaN(test.ratio) && math.IsNaN(got[0].Ratio)
		if !same || got[0].Verdict() != test.verdict {
			t.Errorf("Rows(%v, %v): ratio %v, %s; want %v, %s", test.ours, test.theirs, got[0].Ratio, got[0].Verdict(), test.ratio, test.verdict)
		}
	}
}

func TestDifferentAnswersVoidTheCase(t *testing.T) {
	t.Parallel()
	all := append(rounds(Kogge, "ms", false, 1), rounds(Upstream, "ms", false, 2)...)
	all[0].Facts, all[1].Facts = map[string]string{"c/the pod": "a", "d": "x"}, map[string]string{"c/the pod": "b", "d": "x"}
	got := Rows("b", all)[0]
	if got.Verdict() != "void: answers differ: the pod" {
		t.Errorf("Verdict() = %q", got.Verdict())
	}
	var text strings.Builder
	if err := Write(&text, []Row{got}); err != nil || !strings.Contains(text.String(), "| b | c | ms | 1.00 | 2.00 | 0.500 | 0.500 to 0.500 | 1, 1 | void: answers differ: the pod |") {
		t.Errorf("Write() = %v\n%s", err, text.String())
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.01234: "0.0123", 1.234: "1.23", 98.76: "98.8", 12345.6: "12346", -4.5: "-4.50"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}
