// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/nftables"

	"kogge.dev/kogge/cluster/node"
)

// program is what a set of processes uses.
type program struct {
	processes int
	// resident is the sum of VmRSS (proc(5)) in bytes: shared pages count once for each process. anonymous is the part of it that is no
	// file's, RssAnon: etcd maps its database, whose pages the kernel takes back when it wants.
	resident, anonymous int64
	// descriptors are open, threads are the kernel's.
	descriptors, threads int
}

// reading is what the node has at one moment.
type reading struct {
	kogge, containerd, shims program
	// helpers are runc, the CNI plugin and whatever else kogge runs for a moment; zombies have ended, and nobody has asked how.
	helpers, zombies int
	// podProcesses run in containers.
	podProcesses int
	// goroutines of kogge, and the bytes of its heap that are in use right after a collection; that is read at marks only.
	goroutines int
	heap       int64
	// mounts, those that hold network namespaces, network interfaces and cgroups of the node.
	mounts, namespaces, links, cgroups int
	// rules are those and the elements of sets in nftables.
	rules int
	// folders of pods: volumes, logs, runtime state; snapshots are the file systems of containers and images.
	folders, snapshots int
}

// instrument reads a node. It must be in the node's network and mount namespace: a process in the same mount namespace that is neither
// the soak itself nor a kubectl is kogge's, and containers are in others.
type instrument struct {
	m *machine
	a *api
	// mountNS names the mount namespace.
	mountNS string
	cgroup  string
}

func newInstrument(m *machine, a *api) (*instrument, error) {
	ns, err := os.Readlink("/proc/self/ns/mnt")
	return &instrument{m: m, a: a, mountNS: ns, cgroup: node.PathsOf(m.data(), "").Cgroup + nodeName}, err
}

// read measures everything once.
func (i *instrument) read(ctx context.Context) (reading, error) {
	var r reading
	text, err := i.a.raw(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return r, err
	}
	if r.goroutines, err = total(text); err != nil {
		return r, err
	}
	if err := i.processes(&r); err != nil {
		return r, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return r, err
	}
	r.mounts, r.namespaces = bytes.Count(mounts, []byte("\n")), bytes.Count(mounts, []byte(" - nsfs "))
	links, err := net.Interfaces()
	if err != nil {
		return r, err
	}
	r.links = len(links)
	if r.cgroups, err = cgroups(i.cgroup); err != nil {
		return r, err
	}
	for _, pattern := range []string{"kubelet/pods/*", "log/pods/*", "log/containers/*", "run/ctd/state/io.containerd.runtime.v2.task/*/*", "run/ctd/runc/*/*"} {
		r.folders += found(i.m.in(pattern))
	}
	r.snapshots = found(i.m.in("containerd/root/io.containerd.snapshotter.v1.*/snapshots/*"))
	r.rules, err = rules()
	return r, err
}

// total reads the head of a profile of goroutines.
func total(profile []byte) (int, error) {
	head, _, _ := bytes.Cut(profile, []byte("\n"))
	var n int
	if _, err := fmt.Sscanf(string(head), "goroutine profile: total %d", &n); err != nil {
		return 0, fmt.Errorf("profile of goroutines begins with %q", head)
	}
	return n, nil
}

// found counts what a pattern matches.
func found(pattern string) int {
	paths, _ := filepath.Glob(pattern) // it is a constant, and well formed
	return len(paths)
}

// cgroups counts the node's in the hierarchy that has most of them.
func cgroups(path string) (int, error) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + path) // as above
	most := 0
	for _, root := range append(roots, "/sys/fs/cgroup"+path) {
		n := 0
		err := filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				n++
			}
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
				err = nil // it went meanwhile, or there is no such hierarchy
			}
			return err
		})
		if err != nil {
			return 0, err
		}
		most = max(most, n)
	}
	return most, nil
}

// rules counts what nftables holds. Sets come and go while they are read: what is gone counts as nothing.
func rules() (int, error) {
	conn, err := nftables.New()
	if err != nil {
		return 0, err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return 0, fmt.Errorf("list nftables: %w", err)
	}
	sum := 0
	chains, err := conn.ListChains()
	if err != nil {
		return 0, fmt.Errorf("list nftables: %w", err)
	}
	for _, chain := range chains {
		found, err := conn.GetRules(chain.Table, chain)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return 0, fmt.Errorf("list nftables: %w", err)
		}
		sum += len(found)
	}
	for _, table := range tables {
		sets, err := conn.GetSets(table)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return 0, fmt.Errorf("list nftables: %w", err)
		}
		for _, set := range sets {
			elements, err := conn.GetSetElements(set)
			if err != nil && !errors.Is(err, syscall.ENOENT) {
				return 0, fmt.Errorf("list nftables: %w", err)
			}
			sum += len(elements)
		}
	}
	return sum, nil
}

// processes looks at all processes of the machine and counts those of the node.
func (i *instrument) processes(r *reading) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	parents := map[int]int{} // of zombies
	ours := map[int]bool{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if err := i.process(pid, r, ours, parents); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("read process %d: %w", pid, err)
		}
	}
	for _, parent := range parents {
		if ours[parent] {
			r.zombies++
		}
	}
	return nil
}

// process adds one process to what it belongs to.
func (i *instrument) process(pid int, r *reading, ours map[int]bool, parents map[int]int) error {
	dir := fmt.Sprintf("/proc/%d", pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return err
	}
	if s := statusOf(status); s.zombie {
		parents[pid] = s.parent
		return nil
	}
	ns, err := os.Readlink(dir + "/ns/mnt")
	if errors.Is(err, fs.ErrPermission) {
		return nil // root may look into all that it started
	}
	if err != nil {
		return err
	}
	if ns != i.mountNS {
		groups, err := os.ReadFile(dir + "/cgroup")
		if strings.Contains(string(groups), i.cgroup+"/") {
			r.podProcesses++
		}
		return err
	}
	command, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return err
	}
	into := r.role(strings.Split(string(command), "\x00"))
	if into == nil {
		return nil
	}
	ours[pid] = true
	descriptors, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return err
	}
	s := statusOf(status)
	into.processes++
	into.resident += s.resident
	into.anonymous += s.anonymous
	into.threads += s.threads
	into.descriptors += len(descriptors)
	return nil
}

// role is where a process of the node's mount namespace counts; nil for those of the soak itself and, which are counted here, for helpers.
func (r *reading) role(command []string) *program {
	name := filepath.Base(command[0])
	switch {
	case len(command) < 2 || name == "kogge" && command[1] == "kubectl":
		return nil
	case name == "kogge" && command[1] == "up":
		return &r.kogge
	case strings.HasPrefix(name, "containerd-shim"):
		return &r.shims
	case command[1] == "containerd-child":
		return &r.containerd
	}
	r.helpers++
	return nil
}

// processStatus is the part of /proc/<pid>/status that is read.
type processStatus struct {
	zombie              bool
	parent, threads     int
	resident, anonymous int64
}

var statusLine = regexp.MustCompile(`(?m)^(State|PPid|Threads|VmRSS|RssAnon):\s+(\S+)`)

func statusOf(text []byte) processStatus {
	var s processStatus
	for _, line := range statusLine.FindAllSubmatch(text, -1) {
		number, _ := strconv.Atoi(string(line[2])) // State has none
		switch string(line[1]) {
		case "State":
			s.zombie = string(line[2]) == "Z"
		case "PPid":
			s.parent = number
		case "Threads":
			s.threads = number
		case "RssAnon":
			s.anonymous = int64(number) << 10
		default:
			s.resident = int64(number) << 10
		}
	}
	return s
}
