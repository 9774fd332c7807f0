// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// aRun is a run over lists of its own.
func aRun(t *testing.T, passing string, tests ...test) *conformanceRun {
	t.Helper()
	o := options{root: t.TempDir()}
	if err := os.MkdirAll(o.list(""), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.list(passingList), []byte(passing), 0o644); err != nil {
		t.Fatal(err)
	}
	return &conformanceRun{o: o, suite: &suite{dir: "runs/now"}, tests: tests, began: time.Now()}
}

func (r *conformanceRun) text(t *testing.T, list string) string {
	t.Helper()
	text, err := os.ReadFile(r.o.list(list))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

func TestJudgeRefusesWhatHasPassedBefore(t *testing.T) {
	r := aRun(t, "a\nb\n", test{name: "a"}, test{name: "b"}, test{name: "c"}, test{name: "d"})
	err := r.judge([]result{
		{outcome: outcome{name: "a", passed: true}},
		{outcome: outcome{name: "b"}},
		{outcome: outcome{name: "c", passed: true}},
		{outcome: outcome{name: "d"}},
	})
	if err == nil || !strings.Contains(err.Error(), "1 tests failed that have passed before") {
		t.Errorf("judge = %v", err)
	}
	if got := r.text(t, passingList); got != "a\nb\nc\n" {
		t.Errorf("passing tests are %q", got)
	}
}

func TestJudgeListsAFlakeWithWhatItSaid(t *testing.T) {
	r := aRun(t, "a\n", test{name: "a"})
	if err := r.judge([]result{{outcome: outcome{name: "a", failure: "\n  timed out\nmore"}, flaky: true}}); err != nil {
		t.Errorf("judge = %v", err)
	}
	if got := r.text(t, flakyList); got != "a | not yet known; it said: timed out\n" {
		t.Errorf("flakes are %q", got)
	}
}

func TestJudgeMissesTestsThatDidNotRun(t *testing.T) {
	r := aRun(t, "a\n", test{name: "a"}, test{name: "b"})
	if err := r.judge([]result{{outcome: outcome{name: "a", passed: true}}}); err == nil {
		t.Error("judge has no error though a test did not run")
	}
}

func TestProgressFollowsTheSuite(t *testing.T) {
	p := newProgress("suite", []test{{name: "[sig-a] works"}, {name: "[sig-a] works well"}, {name: "[sig-b] alone", serial: true}}, 2,
		map[string]time.Duration{"[sig-a] works": time.Minute, "[sig-a] works well": time.Minute, "[sig-b] alone": time.Minute})
	output := `Will run 3 of 7579 specs
------------------------------
• [0.181 seconds]
[sig-a] works well [sig-a, Conformance]
test/e2e/a.go:39
------------------------------
S [SKIPPED] [0.001 seconds]
[sig-a] works
------------------------------
• [FAILED] [12.500 seconds]
[sig-a] [It] works [sig-a, Conformance]
  [FAILED] timed out
------------------------------
Ran 2 of 7579 Specs
`
	s := &suite{}
	if err := s.follow(t.Context(), strings.NewReader(output), p); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"[sig-a] works": "[sig-a] [It] works [sig-a, Conformance]\n  [FAILED] timed out\n"}; !maps.Equal(s.wrote, want) {
		t.Errorf("failed tests wrote %q, want %q", s.wrote, want)
	}
	// Half of the weight is done after 10 seconds: the other half ends 10 seconds later.
	line := p.line(p.began.Add(10 * time.Second))
	want := "suite: 2 of 3 done, 1 passed, 1 failed, 1 running, 10s elapsed, expected end " + p.began.Add(20*time.Second).Format("15:04")
	if line != want {
		t.Errorf("line = %q, want %q", line, want)
	}
}
