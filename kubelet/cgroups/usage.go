// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Usage is what a cgroup has used.
type Usage struct {
	// CPU is the processor time used so far, in nanoseconds.
	CPU uint64
	// Memory and WorkingSet are bytes now; WorkingSet leaves out file pages that can be dropped at once.
	Memory, WorkingSet, RSS uint64
	PageFaults, MajorFaults uint64
	// MemoryLimit is zero without a limit.
	MemoryLimit uint64
	Pids        uint64
}

// Usage reads a cgroup of the tree; sub is relative to the tree's root, "" is the root itself.
func (t *Tree) Usage(sub string) Usage { return t.read(filepath.Join(t.config.Root, sub)) }

// Machine reads the usage of the whole machine.
func (t *Tree) Machine() Usage { return t.read("/") }

func (t *Tree) read(cgroup string) Usage {
	if t.unified {
		return t.readUnified(filepath.Join(t.config.Mount, cgroup))
	}
	dir := func(controller string) string { return filepath.Join(t.config.Mount, controller, cgroup) }
	u := Usage{CPU: number(dir("cpuacct"), "cpuacct.usage"), Memory: number(dir("memory"), "memory.usage_in_bytes"), Pids: number(dir("pids"), "pids.current")}
	stat := table(dir("memory"), "memory.stat")
	u.RSS, u.PageFaults, u.MajorFaults = stat["total_rss"], stat["total_pgfault"], stat["total_pgmajfault"]
	u.WorkingSet = less(u.Memory, stat["total_inactive_file"])
	const unlimited = 1 << 62
	if l := number(dir("memory"), "memory.limit_in_bytes"); l < unlimited {
		u.MemoryLimit = l
	}
	return u
}

func (t *Tree) readUnified(dir string) Usage {
	cpu, stat := table(dir, "cpu.stat"), table(dir, "memory.stat")
	u := Usage{
		CPU: cpu["usage_usec"] * 1000, Memory: number(dir, "memory.current"), RSS: stat["anon"], PageFaults: stat["pgfault"],
		MajorFaults: stat["pgmajfault"], MemoryLimit: number(dir, "memory.max"), Pids: number(dir, "pids.current"),
	}
	if u.Memory == 0 { // the root cgroup has no memory.current
		u.Memory = stat["anon"] + stat["file"] + stat["kernel"]
	}
	u.WorkingSet = less(u.Memory, stat["inactive_file"])
	return u
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

func number(dir, file string) uint64 {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0 // "max", or a file of another kind
	}
	return n
}

func table(dir, file string) map[string]uint64 {
	out := map[string]uint64{}
	f, err := os.Open(filepath.Join(dir, file))
	if err != nil {
		return out
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if name, value, ok := strings.Cut(scan.Text(), " "); ok {
			if n, err := strconv.ParseUint(value, 10, 64); err == nil {
				out[name] = n
			}
		}
	}
	return out
}
