// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The cgroups below a cell's root. What is measured lives in Measured, or in cgroups that it makes itself; the load driver, the cell's
// first process, and programs that a benchmark needs but does not measure live in Scenery, whose use is subtracted.
const (
	Measured = "measured"
	Scenery  = "scenery"
)

// hierarchy is one mounted cgroup hierarchy: several with cgroup v1, one with v2.
type hierarchy struct {
	mount   string // where it is mounted
	current string // cgroup of this process in it, from its root
	options string // what to mount it with again; empty with v2
	unified bool
}

// hierarchies reads what is mounted, and where this process is.
func hierarchies() ([]hierarchy, error) {
	where, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read cgroups: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parseHierarchies(string(where), string(mounts)), nil
}

// parseHierarchies joins /proc/self/cgroup (id:controllers:path, cgroups(7)) with /proc/self/mountinfo (proc(5)).
func parseHierarchies(where, mounts string) []hierarchy {
	paths := map[string]string{} // by controllers, "" is v2
	for line := range strings.Lines(where) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			paths[f[1]] = f[2]
		}
	}
	var out []hierarchy
	for line := range strings.Lines(mounts) {
		before, after, found := strings.Cut(line, " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !found || len(head) < 5 || len(tail) < 3 {
			continue
		}
		h := hierarchy{mount: head[4], unified: tail[0] == "cgroup2"}
		if !h.unified {
			if tail[0] != "cgroup" {
				continue
			}
			h.options = controllersOf(tail[2])
		}
		path, known := paths[h.options]
		if !known || slices.ContainsFunc(out, func(o hierarchy) bool { return o.options == h.options }) {
			continue
		}
		h.current = path
		out = append(out, h)
	}
	return out
}

// controllersOf takes the controllers out of a v1 hierarchy's super options ("rw,cpu,cpuacct").
func controllersOf(super string) string {
	options := slices.DeleteFunc(strings.Split(super, ","), func(o string) bool {
		return o == "rw" || o == "ro" || o == "xattr" || o == "clone_children" || strings.HasPrefix(o, "release_agent=")
	})
	return strings.Join(options, ",")
}

// root is the folder of a cell in a hierarchy.
func (h hierarchy) root(name string) string { return filepath.Join(h.mount, h.current, name) }

// create makes the cell's cgroups in one hierarchy.
func (h hierarchy) create(name string) error {
	root := h.root(name)
	for _, dir := range []string{root, filepath.Join(root, Measured), filepath.Join(root, Scenery)} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
		// A cpuset takes no process before it has CPUs and memory nodes.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if h.unified {
				continue
			}
			value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), value, 0)
			}
			if err != nil {
				return fmt.Errorf("fill cpuset: %w", err)
			}
		}
	}
	return nil
}

// join moves this process.
func join(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// remove removes a cgroup and all below it, the deepest first. Processes that were just killed may hold one for a moment: it tries
// until ctx ends.
func remove(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() {
			errs = append(errs, remove(ctx, filepath.Join(dir, e.Name())))
		}
	}
	err = syscall.Rmdir(dir)
	for errors.Is(err, syscall.EBUSY) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
		err = syscall.Rmdir(dir)
	}
	if err != nil {
		err = fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return errors.Join(append(errs, err)...)
}

// CPU returns the processor time that everything measured has used so far, ended processes and their cgroups included.
func CPU() (time.Duration, error) {
	all, err := hierarchies()
	if err != nil {
		return 0, err
	}
	for _, h := range all {
		total, err := h.usage("")
		if errors.Is(err, fs.ErrNotExist) {
			continue // not the hierarchy that counts
		}
		own, ownErr := h.usage(Scenery)
		if err = errors.Join(err, ownErr); err != nil {
			return 0, fmt.Errorf("read CPU use: %w", err)
		}
		return total - own, nil
	}
	return 0, errors.New("no cgroup hierarchy counts CPU time")
}

// usage reads a cgroup's time: nanoseconds in cpuacct.usage with v1, usage_usec in cpu.stat with v2.
func (h hierarchy) usage(name string) (time.Duration, error) {
	if !h.unified {
		text, err := os.ReadFile(filepath.Join(h.mount, name, "cpuacct.usage"))
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(ns), err
	}
	file, err := os.Open(filepath.Join(h.mount, name, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), "usage_usec "); found {
			us, err := strconv.ParseInt(rest, 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fs.ErrNotExist // a hybrid host's v2 hierarchy counts nothing
}
