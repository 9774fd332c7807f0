// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kogge.dev/kogge/test/peers/upstream"
)

// lists hold, for each component, thirty official tests of its area that pass on kogge alone.
//
//go:embed tests
var lists embed.FS

// tests are the names of a component's official tests.
func tests(c component) ([]string, error) {
	text, err := lists.ReadFile("tests/" + string(c) + ".txt")
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

// official runs the tests of the odd component's area.
func (c *cell) official(ctx context.Context) (err error) {
	names, err := tests(c.p.odd)
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp("", "suite") // The suite leaves folders of its own in it. Paths of sockets there must stay short.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	args := []string{
		"--procs=" + strconv.Itoa(c.o.procs), "--no-color", "--silence-skips", "--timeout=1h", "--output-dir=" + c.logs, "--json-report=report.json",
	}
	for _, name := range names {
		args = append(args, "--focus="+regexp.QuoteMeta(name)+"$")
	}
	args = append(args, filepath.Join(c.o.suite, "e2e.test"), "--", "--kubeconfig="+c.peers.Kubeconfig(upstream.Admin),
		"--kubectl-path="+c.o.program("kubectl"), "--provider=skeleton", "--num-nodes=1")
	log, err := os.Create(filepath.Join(c.logs, "official.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	ginkgo := exec.CommandContext(ctx, filepath.Join(c.o.suite, "ginkgo"), args...)
	ginkgo.Dir, ginkgo.Stdout, ginkgo.Stderr = c.logs, log, log
	ginkgo.Env = append(os.Environ(), "HOME="+c.logs, "TMPDIR="+temporary) // kubectl keeps there what a server offers: nothing of an earlier run
	ginkgo.Cancel = func() error { return ginkgo.Process.Signal(os.Interrupt) }
	ginkgo.WaitDelay = time.Minute
	runErr := ginkgo.Run()
	passed, failed, err := judge(filepath.Join(c.logs, "report.json"))
	if err != nil {
		return errors.Join(runErr, err)
	}
	fmt.Fprintf(os.Stdout, "%-30s %d of %d official tests passed\n", c.p.name(), passed, len(names))
	switch {
	case len(failed) > 0:
		return fmt.Errorf("failed:\n  %s", strings.Join(failed, "\n  "))
	case passed != len(names):
		return fmt.Errorf("%d of %d tests ran, see %s", passed, len(names), log.Name())
	}
	return nil
}

// judge reads ginkgo's report: how many tests passed, and which failed.
func judge(path string) (passed int, failed []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, nil, err
	}
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeText            string
			LeafNodeType            string
			State                   string
		}
	}
	if err := json.Unmarshal(text, &reports); err != nil {
		return 0, nil, fmt.Errorf("report %s: %w", path, err)
	}
	for _, report := range reports {
		for _, spec := range report.SpecReports {
			switch {
			case spec.LeafNodeType != "It" || spec.State == "skipped" || spec.State == "pending":
			case spec.State == "passed":
				passed++
			default:
				failed = append(failed, strings.Join(append(spec.ContainerHierarchyTexts, spec.LeafNodeText), " "))
			}
		}
	}
	return passed, failed, nil
}
