// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// evidence keeps what is needed to see why a test failed without running it again. A failed test's folder,
// failed/<short name>, holds
//
//	test.log           what the test wrote
//	failure.txt        why it failed, and where
//	<namespace>/       objects.yaml, events.txt, nodes.txt, and the logs of its containers
//	components/        the lines of the components' logs from the time of the test
type evidence struct {
	m   *machine
	dir string
	// kinds are the namespaced resources of the cluster, listed once.
	kinds string
	// found are the namespaces that failed tests left.
	found []string
}

func (e *evidence) collected(namespace string) string {
	return filepath.Join(e.dir, "namespaces", namespace)
}

// namespace collects what is in a namespace now. What can't be had is said in the file that was to hold it.
func (e *evidence) namespace(ctx context.Context, name string) {
	e.found = append(e.found, name)
	dir := e.collected(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stdout, "collect what a failed test left:", err)
		return
	}
	save := func(file string, args ...string) {
		text, err := e.m.ask(ctx, args...)
		if err != nil {
			text = err.Error()
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stdout, "collect what a failed test left:", err)
		}
	}
	if e.kinds == "" {
		if text, err := e.m.ask(ctx, "api-resources", "--namespaced", "--verbs=list", "-o", "name"); err == nil {
			e.kinds = strings.Join(strings.Fields(text), ",")
		}
	}
	save("objects.yaml", "get", e.kinds, "-n", name, "-o", "yaml", "--ignore-not-found")
	save("events.txt", "get", "events", "-n", name, "--sort-by=.metadata.creationTimestamp", "-o", "wide")
	save("nodes.txt", "describe", "nodes")
	for node := range addresses {
		pods, err := filepath.Glob(filepath.Join(e.m.data(node), "log", "pods", name+"_*"))
		if err != nil {
			continue
		}
		for _, pod := range pods {
			if err := os.CopyFS(filepath.Join(dir, "containers", filepath.Base(pod)), os.DirFS(pod)); err != nil {
				fmt.Fprintln(os.Stdout, "collect what a failed test left:", err)
			}
		}
	}
}

// clear removes the namespaces that failed tests left, so that later tests have the nodes for themselves.
func (e *evidence) clear(ctx context.Context) error {
	if len(e.found) == 0 {
		return nil
	}
	args := append([]string{"delete", "namespace", "--ignore-not-found", "--timeout=3m"}, e.found...)
	e.found = nil
	_, err := e.m.ask(ctx, args...)
	return err
}

// keep makes the folder of a failed test, of its outcome and what it wrote.
func (e *evidence) keep(o outcome, wrote string) error {
	dir := filepath.Join(e.dir, "failed", shortName(o.name))
	components := filepath.Join(dir, "components")
	if err := os.MkdirAll(components, 0o755); err != nil {
		return err
	}
	errs := []error{
		os.WriteFile(filepath.Join(dir, "test.log"), []byte(wrote), 0o644),
		os.WriteFile(filepath.Join(dir, "failure.txt"), []byte(o.name+"\n\n"+o.failure), 0o644),
	}
	for _, namespace := range namespaces(wrote) {
		err := os.Rename(e.collected(namespace), filepath.Join(dir, namespace))
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for node := range addresses {
		for i, log := range e.m.logs(node) {
			target := filepath.Join(components, fmt.Sprintf("node-%d-%s.log", node, []string{"kogge", "containerd"}[i]))
			errs = append(errs, span(log, target, o.start, o.start.Add(o.duration)))
		}
	}
	return errors.Join(errs...)
}

// stamp is the time in a line of slog or of containerd.
var stamp = regexp.MustCompile(`^time="?([0-9T:.Z+-]+)`)

// span copies the lines of a log that were written between two times, and what follows a line without a time of its own.
func span(log, target string, from, to time.Time) error {
	in, err := os.Open(log)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer out.Close()
	within := false
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if found := stamp.FindSubmatch(lines.Bytes()); found != nil {
			if at, err := time.Parse(time.RFC3339, string(found[1])); err == nil {
				// containerd rounds down to seconds.
				within = !at.Before(from.Truncate(time.Second)) && !at.After(to)
			}
		}
		if within {
			if _, err := fmt.Fprintln(out, lines.Text()); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// shortName is a folder's name for a test: what may stand in file names, and not too long.
func shortName(name string) string {
	short := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r) {
			return r
		}
		return '-'
	}, name)
	for strings.Contains(short, "--") {
		short = strings.ReplaceAll(short, "--", "-")
	}
	return strings.Trim(short[:min(120, len(short))], "-")
}
