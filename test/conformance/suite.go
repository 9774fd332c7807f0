// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

// test is one test of the suite.
type test struct {
	name string
	// serial tests run after all others, one at a time.
	serial bool
}

// suite runs the official tests against the nodes.
type suite struct {
	o options
	m *machine
	// dir is this run's folder.
	dir string
	// evidence keeps what a failed test leaves.
	evidence *evidence
	// wrote holds what failed tests of the last run wrote, by name.
	wrote map[string]string
}

// names lists the tests that a run with these selections covers, without running them.
func (s *suite) names(ctx context.Context, selections []string) (tests []test, err error) {
	temporary, remove, err := temporary()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	path := filepath.Join(s.dir, "tests.json")
	args := []string{temporary, filepath.Join(s.o.bin, "e2e.test"), "--ginkgo.dry-run", "--ginkgo.json-report=" + path}
	for _, one := range selections {
		args = append(args, "--ginkgo.focus="+one)
	}
	if s.o.skip != "" {
		args = append(args, "--ginkgo.skip="+s.o.skip)
	}
	if err := command(ctx, s.dir, "env", append(args, s.flags()...)...); err != nil {
		return nil, fmt.Errorf("list tests: %w", err)
	}
	err = eachSpec(path, func(spec types.SpecReport) {
		tests = append(tests, test{name: spec.FullText(), serial: spec.IsSerial})
	})
	return tests, errors.Join(err, os.Remove(path))
}

// temporary makes a folder for the suite's temporary files, of which it leaves some, and returns the variable that names it. Its path is short: the
// suite makes sockets in it.
func temporary() (variable string, remove func() error, err error) {
	path, err := os.MkdirTemp("", "suite")
	return "TMPDIR=" + path, func() error { return os.RemoveAll(path) }, err
}

// eachSpec calls f for the tests of a report that ran, or would run.
func eachSpec(path string, f func(types.SpecReport)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var reports []types.Report
	if err := json.Unmarshal(text, &reports); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	for _, report := range reports {
		for _, spec := range report.SpecReports {
			if spec.LeafNodeType == types.NodeTypeIt && spec.State.Is(types.SpecStatePassed|types.SpecStateFailureStates) {
				f(spec)
			}
		}
	}
	return nil
}

// flags are the suite's own.
func (s *suite) flags() []string {
	return []string{
		"--kubeconfig=" + s.m.kubeconfig(), "--kubectl-path=" + s.o.kubectl(), "--provider=skeleton",
		"--num-nodes=" + strconv.Itoa(len(addresses)), "--delete-namespace-on-failure=false",
	}
}

// outcome is how one test ended.
type outcome struct {
	name     string
	passed   bool
	start    time.Time
	duration time.Duration
	// failure says why it failed.
	failure string
}

// run runs the tests that the selections name and returns how each ended. Label names the files of this part of the run.
func (s *suite) run(ctx context.Context, label string, selections []string, p *progress) (out []outcome, err error) {
	temporary, remove, err := temporary()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	report := label + ".json"
	args := []string{
		"--procs=" + strconv.Itoa(s.o.procs), "--no-color", "--silence-skips", "-v", "--timeout=4h", "--output-dir=" + s.dir, "--json-report=" + report,
	}
	for _, one := range selections {
		args = append(args, "--focus="+one)
	}
	if s.o.skip != "" {
		args = append(args, "--skip="+s.o.skip)
	}
	args = append(append(args, filepath.Join(s.o.bin, "e2e.test"), "--"), s.flags()...)
	log, err := os.Create(filepath.Join(s.dir, label+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ginkgo := exec.CommandContext(ctx, filepath.Join(s.o.bin, "ginkgo"), args...)
	ginkgo.Dir = s.dir
	ginkgo.Env = append(os.Environ(), "HOME="+s.dir, temporary) // kubectl keeps there what a server offers: nothing of an earlier run
	ginkgo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}    // an interrupt of the terminal reaches it once, through Cancel
	ginkgo.Cancel = func() error { return ginkgo.Process.Signal(syscall.SIGTERM) }
	ginkgo.WaitDelay = time.Minute // it gives tests half of that
	reader, writer := io.Pipe()
	ginkgo.Stdout, ginkgo.Stderr = writer, writer
	watched := make(chan error, 1)
	go func() { watched <- s.follow(ctx, io.TeeReader(reader, log), p) }()
	closeProgress := p.watch()
	err = ginkgo.Run()
	_ = writer.Close() // always nil
	watchErr := <-watched
	closeProgress()
	if _, ended := errors.AsType[*exec.ExitError](err); ended && ctx.Err() == nil {
		err = nil // it says that tests failed, which the report says better
	}
	if err := errors.Join(err, watchErr, ctx.Err()); err != nil {
		return nil, err
	}
	outcomes, err := outcomesOf(filepath.Join(s.dir, report))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the suite did not run, see %s", log.Name())
	}
	return outcomes, err
}

// What the suite writes: a line between two tests, how a test ended, before a line with its name, and a namespace that stays
// because its test failed.
var (
	testEnded     = regexp.MustCompile(`^• (\[[A-Z]+\] )?\[[0-9.]+ seconds\]`)
	leftNamespace = regexp.MustCompile(`Collecting events from namespace "([^"]+)"`)
)

const betweenTests = "------------------------------\n"

// follow reads the suite's output as it comes. It keeps what failed tests write, and collects their objects before others change
// them.
func (s *suite) follow(ctx context.Context, output io.Reader, p *progress) error {
	s.wrote = map[string]string{}
	var failed string // the test whose output is being read, if it failed
	var end []string
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadString('\n')
		if line == betweenTests {
			failed = ""
		}
		if end != nil {
			if name := p.ended(line, end[1] == ""); end[1] != "" {
				failed = name
			}
		}
		end = testEnded.FindStringSubmatch(line)
		if failed != "" {
			s.wrote[failed] += line
			if found := leftNamespace.FindStringSubmatch(line); found != nil {
				s.evidence.namespace(ctx, found[1])
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// namespaces are those that a failed test left, by what it wrote.
func namespaces(wrote string) []string {
	var names []string
	for _, found := range leftNamespace.FindAllStringSubmatch(wrote, -1) {
		names = append(names, found[1])
	}
	return names
}

func outcomesOf(report string) ([]outcome, error) {
	var outcomes []outcome
	err := eachSpec(report, func(spec types.SpecReport) {
		o := outcome{
			name: spec.FullText(), passed: spec.State == types.SpecStatePassed, start: spec.StartTime, duration: spec.RunTime,
		}
		if !o.passed {
			o.failure = spec.Failure.Message + "\n" + spec.Failure.Location.String() + "\n" + spec.Failure.Location.FullStackTrace
			for _, more := range spec.AdditionalFailures {
				o.failure += "\n" + more.Failure.Message
			}
		}
		outcomes = append(outcomes, o)
	})
	return outcomes, err
}

// exactly selects tests by their whole names.
func exactly(names []string) []string {
	var selections []string
	for _, name := range names {
		selections = append(selections, regexp.QuoteMeta(name)+"$")
	}
	return selections
}

// sig is the special interest group of a test, which its name begins with.
func sig(name string) string {
	group, _, ok := strings.Cut(strings.TrimPrefix(name, "["), "]")
	if !ok || !strings.HasPrefix(group, "sig-") {
		return "none"
	}
	return group
}
