// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kogge.dev/kogge/cluster/node"
)

// forward POD PORTS URL PATTERN: while kubectl forwards ports to the pod, the URL answers.
func forward(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 || neg {
		ts.Fatalf("usage: forward POD PORTS URL PATTERN")
	}
	m := of(ts)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := m.command(ctx, 0, "/", m.program("kubectl"), "port-forward", "pod/"+args[0], args[1])
	ts.Check(m.inside(0, cmd.Start))
	defer func() { cancel(); _ = cmd.Wait() }() // ended by us
	pattern := regexp.MustCompile(args[3])
	var last string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if last = m.fetch(args[2]); pattern.MatchString(last) {
			return
		}
	}
	ts.Fatalf("%s did not answer %s; last: %s", args[2], args[3], last)
}

// snapshot FILE: what the machine has that kogge could leave behind.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: snapshot FILE")
	}
	m := of(ts)
	var b strings.Builder
	section := func(name string, lines []string) {
		slices.Sort(lines)
		fmt.Fprintf(&b, "== %s\n%s\n", name, strings.Join(lines, "\n"))
	}
	lines := func(command ...string) []string {
		out, errOut, err := m.run(0, "/", nil, command...)
		if err != nil {
			ts.Fatalf("%v: %v\n%s", command, err, errOut)
		}
		return strings.Split(strings.TrimSpace(out), "\n")
	}
	var links []string
	ts.Check(m.inside(0, func() error {
		for _, file := range []string{"/proc/thread-self/net/dev", "/proc/thread-self/net/route"} {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
				fields := strings.Fields(name)
				if len(fields) > 1 {
					fields = fields[:2]
				}
				links = append(links, strings.Join(fields, " "))
			}
		}
		return nil
	}))
	section("links and routes", links)
	section("addresses", lines("sh", "-c", "cat /proc/net/fib_trie | grep -B1 'host LOCAL' | grep -o '[0-9.]*$' | sort -u; cat /proc/net/if_inet6 | cut -d' ' -f1,6 | grep -v fe80"))
	tables, err := tablesIn(m.namespaces[0])
	ts.Check(err)
	section("tables", tables)
	section("sysctls", lines("sh", "-c", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/bridge/bridge-nf-call-iptables"))
	var mounts []string
	text, err := os.ReadFile("/proc/self/mountinfo")
	ts.Check(err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], m.dir) {
			mounts = append(mounts, fields[4])
		}
	}
	section("mounts", mounts)
	var processes []string
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	for _, path := range found {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), m.data(0)) {
			processes = append(processes, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	section("processes", processes)
	cgroups, err := filepath.Glob("/sys/fs/cgroup/*" + node.PathsOf(m.data(0), "").Cgroup + "*")
	ts.Check(err)
	section("cgroups", cgroups)
	files, err := filepath.Glob(filepath.Join(m.dir, "*"))
	ts.Check(err)
	section("files", files)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o644))
}
