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
	cmd := m.command(ctx, "/", m.program("kubectl"), "port-forward", "pod/"+args[0], args[1])
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

// shared are the places outside of the data folder where container runtimes, kubelets and network plugins leave files; not
// those that another cluster on this machine writes to all the time.
var shared = []string{
	"/etc/cni/net.d/*", "/etc/containerd", "/etc/kubernetes/*", "/opt/cni/bin/*", "/run/kogge*", "/run/nri/*", "/run/runc/*", "/var/lib/cni/*",
	"/var/lib/containerd/*",
}

// processesOf lists the processes whose command line names a folder or that are in a cgroup below a prefix: the containers of
// pods name nothing of ours.
func processesOf(ts *testscript.TestScript, dir, cgroup string) []string {
	found, err := filepath.Glob("/proc/[0-9]*")
	ts.Check(err)
	var out []string
	for _, path := range found {
		command, err := os.ReadFile(filepath.Join(path, "cmdline"))
		if err != nil || len(command) == 0 {
			continue // it has ended; nobody may have waited for it yet
		}
		if state, err := os.ReadFile(filepath.Join(path, "stat")); err != nil || strings.Contains(string(state), ") Z ") {
			continue // as above, and its parent has not noticed
		}
		groups, _ := os.ReadFile(filepath.Join(path, "cgroup")) // as above
		if strings.Contains(string(command), dir) || strings.Contains(string(groups), cgroup) {
			out = append(out, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return out
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
		out, errOut, err := m.run(0, "/", command...)
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
		// Mounts anywhere of something of ours: the mount point is the fifth field, what is mounted the fourth and the last.
		if fields := strings.Fields(line); strings.Contains(line, m.dir) {
			mounts = append(mounts, fields[4])
		}
	}
	section("mounts", mounts)
	cgroup := node.PathsOf(m.data(0), "").Cgroup
	section("processes", processesOf(ts, m.data(0), cgroup))
	cgroups, err := filepath.Glob("/sys/fs/cgroup/*" + cgroup + "*")
	ts.Check(err)
	section("cgroups", cgroups)
	var files []string
	for _, pattern := range append(shared, filepath.Join(m.dir, "*")) {
		found, err := filepath.Glob(pattern)
		ts.Check(err)
		files = append(files, found...)
	}
	section("files", files)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o644))
}
