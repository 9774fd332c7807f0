// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupMounts lists the mount points of all cgroup hierarchies, version 1 and 2.
func cgroupMounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var mounts []string
	for line := range strings.Lines(string(data)) {
		left, right, ok := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if !ok || len(fields) < 5 {
			continue
		}
		if kind, _, _ := strings.Cut(right, " "); kind == "cgroup" || kind == "cgroup2" {
			// A hierarchy may be mounted twice; a bind mount of a part of one (root not "/") is not a hierarchy.
			if fields[3] == "/" && !slices.Contains(mounts, fields[4]) {
				mounts = append(mounts, fields[4])
			}
		}
	}
	return mounts, nil
}

// joinCgroup puts this process into the cgroup path of every hierarchy, making it where needed. containerd's own
// setting is no help: on version 2 it expects the cgroup to exist.
func joinCgroup(path string) error {
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, mount := range mounts {
		dir := filepath.Join(mount, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if err := fillCpuset(mount, path); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// fillCpuset copies cpuset.cpus and cpuset.mems downwards along path: version 1 starts a child with both empty and
// refuses processes until they are set.
func fillCpuset(mount, path string) error {
	if _, err := os.Stat(filepath.Join(mount, "cpuset.mems")); err != nil {
		return nil // not a version 1 cpuset hierarchy
	}
	parent := mount
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		dir := filepath.Join(parent, part)
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return fmt.Errorf("fill cpuset: %w", err)
			}
			if len(strings.TrimSpace(string(have))) > 0 {
				continue
			}
			value, err := os.ReadFile(filepath.Join(parent, name))
			if err != nil {
				return fmt.Errorf("fill cpuset: %w", err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), value, 0o644); err != nil {
				return fmt.Errorf("fill cpuset: %w", err)
			}
		}
		parent = dir
	}
	return nil
}

// removeCgroups kills every process below the cgroup path, in all hierarchies, and removes the cgroups. This process
// must not be in one of them.
func removeCgroups(ctx context.Context, path string) error {
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	for {
		left, err := killBelow(mounts, path)
		if err != nil {
			return err
		}
		if left == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill processes of cgroup %s: %d left: %w", path, left, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	var errs []error
	for _, mount := range mounts {
		if err := removeTree(ctx, filepath.Join(mount, path)); err != nil {
			errs = append(errs, err)
		}
		// The folders above are shared with other nodes; the last one to go takes them along.
		for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
			if err := unix.Rmdir(filepath.Join(mount, dir)); err != nil {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// killBelow sends SIGKILL to all processes below path and reports how many it found. Zombies that wait for their
// parent are in the list too until they are reaped.
func killBelow(mounts []string, path string) (int, error) {
	found := map[int]bool{}
	for _, mount := range mounts {
		err := filepath.WalkDir(filepath.Join(mount, path), func(file string, entry fs.DirEntry, err error) error {
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
			if entry.IsDir() || entry.Name() != "cgroup.procs" {
				return nil
			}
			for _, pid := range processes(file) {
				found[pid] = true
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("list processes of cgroup %s: %w", path, err)
		}
	}
	for pid := range found {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return len(found), nil
}

// processes reads the processes of a cgroup, init and this one left out. A cgroup that was removed meanwhile has none.
func processes(file string) []int {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// removeTree removes a cgroup and those below it, deepest first. A cgroup stays busy for a moment after its last
// process is gone.
func removeTree(ctx context.Context, dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	slices.Reverse(dirs)
	for _, d := range dirs {
		for {
			err := unix.Rmdir(d)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("remove cgroup %s: %w", d, err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup %s: %w", d, err)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}
