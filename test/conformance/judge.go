// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A test that failed, and has passed before, runs again, alone, until it has run this often: one that then passes is a flake.
const attempts = 3

// keptRuns is how many runs' folders stay.
const keptRuns = 5

// conformanceRun is one run: which tests, and what became of them.
type conformanceRun struct {
	o          options
	suite      *suite
	selections []string
	tests      []test
	began      time.Time
}

// result is what a run says about one test.
type result struct {
	outcome
	// flaky: it failed first, and passed when it was run again.
	flaky bool
}

func newRun(ctx context.Context, o options) (*conformanceRun, error) {
	r := &conformanceRun{o: o, began: time.Now()}
	dir := o.scratch("runs", r.began.Format("20060102-150405"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := forget(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	m := newMachine(o)
	r.suite = &suite{o: o, m: m, dir: dir, evidence: &evidence{m: m, dir: dir}}
	r.selections = []string{o.focus}
	if o.guard {
		commit, err := output(ctx, o.root, "git", "rev-parse", "HEAD")
		if err != nil {
			return nil, err
		}
		names, err := guardTests(o, strings.TrimSpace(commit))
		if err != nil {
			return nil, err
		}
		r.selections = exactly(names)
	}
	var err error
	if r.tests, err = r.suite.names(ctx, r.selections); err != nil {
		return nil, err
	}
	if len(r.tests) == 0 {
		return nil, fmt.Errorf("no test's name matches %s", o.focus)
	}
	return r, nil
}

// forget removes the folders of all but the last runs.
func forget(runs string) error {
	entries, err := os.ReadDir(runs)
	if err != nil {
		return err
	}
	for _, old := range entries[:max(0, len(entries)-keptRuns)] {
		if err := os.RemoveAll(filepath.Join(runs, old.Name())); err != nil {
			return err
		}
	}
	return nil
}

// all runs the tests, and those once more that fail though they have passed before.
func (r *conformanceRun) all(ctx context.Context) ([]result, error) {
	known, err := durations(r.o)
	if err != nil {
		return nil, err
	}
	passing, err := readList(r.o.list(passingList))
	if err != nil {
		return nil, err
	}
	outcomes, err := r.suite.run(ctx, "suite", r.selections, newProgress("conformance", r.tests, r.o.procs, known))
	if err != nil {
		return nil, err
	}
	var results []result
	again := map[string]int{} // index in results
	for _, o := range outcomes {
		if !o.passed {
			if err := r.suite.evidence.keep(o, r.suite.wrote[o.name]); err != nil {
				return nil, err
			}
			if slices.Contains(passing, o.name) {
				again[o.name] = len(results)
			}
		}
		results = append(results, result{outcome: o})
	}
	if err := r.suite.evidence.clear(ctx); err != nil {
		return nil, err
	}
	if err := r.retry(ctx, results, again, known); err != nil {
		return nil, err
	}
	return results, learn(r.o, known, results)
}

// retry runs failed tests again, alone, until they have run often enough, and notes those that then pass. again maps their names to
// their places in results.
func (r *conformanceRun) retry(ctx context.Context, results []result, again map[string]int, known map[string]time.Duration) error {
	r.suite.o.procs = 1
	for attempt := 2; attempt <= attempts && len(again) > 0; attempt++ {
		var tests []test
		var names []string
		for name := range again {
			names = append(names, name)
			tests = append(tests, test{name: name})
		}
		slices.Sort(names)
		label := fmt.Sprintf("attempt-%d", attempt)
		outcomes, err := r.suite.run(ctx, label, exactly(names), newProgress(label, tests, 1, known))
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if i, ok := again[o.name]; ok && o.passed {
				results[i].flaky = true
				delete(again, o.name)
			}
		}
		if err := r.suite.evidence.clear(ctx); err != nil {
			return err
		}
	}
	return nil
}

// judge prints the table, keeps the lists, and returns an error that names the tests which failed though they have passed
// before.
func (r *conformanceRun) judge(results []result) error {
	passing, err := readList(r.o.list(passingList))
	if err != nil {
		return err
	}
	known, err := readList(r.o.list(flakyList))
	if err != nil {
		return err
	}
	var passes, flakes, broken, others []string
	for _, one := range results {
		isKnown := slices.ContainsFunc(known, func(line string) bool { return flaky(line) == one.name })
		switch {
		case one.passed || one.flaky:
			passes = append(passes, one.name)
			if one.flaky && !isKnown {
				flakes = append(flakes, one.name+" | not yet known; it said: "+firstLine(one.failure))
			}
		case slices.Contains(passing, one.name):
			broken = append(broken, one.name)
		default:
			others = append(others, one.name)
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(passes), func(name string) bool { return slices.Contains(passing, name) })
	fmt.Fprint(os.Stdout, table(results))
	fmt.Fprintf(os.Stdout, "%d tests in %v; logs and what failed tests left are in %s\n", len(results), time.Since(r.began).Round(time.Second), r.suite.dir)
	say("passed for the first time, now in "+passingList, fresh)
	say("failed, then passed, now in "+flakyList, flakes)
	say("failed, and has not passed before", others)
	err = errors.Join(addToList(r.o.list(passingList), fresh), addToList(r.o.list(flakyList), flakes))
	if len(broken) > 0 {
		say("failed, and has passed before", broken)
		err = errors.Join(err, fmt.Errorf("%d tests failed that have passed before", len(broken)))
	}
	if ran := len(results); ran < len(r.tests) {
		err = errors.Join(err, fmt.Errorf("%d of %d tests did not run", len(r.tests)-ran, len(r.tests)))
	}
	return err
}

func say(what string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(os.Stdout, "%s:\n  %s\n", what, strings.Join(names, "\n  "))
	}
}

// firstLine is a failure's first line that says something, not too long for a list.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return line[:min(200, len(line))]
		}
	}
	return ""
}

// table counts results by special interest group.
func table(results []result) string {
	type row struct {
		passed, flaky, failed int
		time                  time.Duration
	}
	rows := map[string]*row{}
	sum := &row{}
	for _, one := range results {
		group := sig(one.name)
		if rows[group] == nil {
			rows[group] = &row{}
		}
		for _, r := range []*row{rows[group], sum} {
			r.time += one.duration
			switch {
			case one.passed:
				r.passed++
			case one.flaky:
				r.flaky++
			default:
				r.failed++
			}
		}
	}
	var groups []string
	for group := range rows {
		groups = append(groups, group)
	}
	slices.Sort(groups)
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tPASSED\tFLAKY\tFAILED\tTIME")
	line := func(group string, r *row) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%v\n", group, r.passed, r.flaky, r.failed, r.time.Round(time.Second))
	}
	for _, group := range groups {
		line(group, rows[group])
	}
	line("all", sum)
	_ = w.Flush() // into memory
	return out.String()
}
