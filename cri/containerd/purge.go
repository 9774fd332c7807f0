// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Status describes the recorded containerd of a node.
type Status struct {
	// PID is its process id, 0 if none runs.
	PID int
}

// Inspect tells whether containerd runs, without touching it.
func Inspect(config Config) (Status, error) {
	config, err := config.withDefaults()
	if err != nil {
		return Status{}, err
	}
	if r, alive := readRecord(config.recordFile()); alive {
		return Status{PID: r.PID}, nil
	}
	return Status{}, nil
}

// Halt ends a running containerd. Pods go on; their shims wait for the next one. It is no error if none runs.
func Halt(ctx context.Context, config Config) error {
	config, err := config.withDefaults()
	if err != nil {
		return err
	}
	if r, alive := readRecord(config.recordFile()); alive {
		if err := end(ctx, r.PID); err != nil {
			return err
		}
	}
	for _, path := range []string{config.recordFile(), config.Socket(), config.Socket() + ".ttrpc"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("halt containerd: %w", err)
		}
	}
	return nil
}

// Purge ends containerd, its shims and all processes of the node's cgroup, unmounts everything below DataDir and RunDir,
// and removes the cgroups, RunDir and DataDir. It works after a crash and when called twice. Container networks must be
// taken down by their owner, before or after.
func Purge(ctx context.Context, config Config) error {
	config, err := config.withDefaults()
	if err != nil {
		return err
	}
	if err := Halt(ctx, config); err != nil {
		return err
	}
	if err := removeCgroups(ctx, config.CgroupRoot); err != nil {
		return err
	}
	if err := killShims(ctx, config); err != nil {
		return err
	}
	dirs := append([]string{config.RunDir, config.DataDir}, config.Outside()...)
	for _, dir := range dirs {
		if err := unmountBelow(dir); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove folder of containerd: %w", err)
		}
	}
	for _, dir := range config.Outside() {
		// Shared by all whose run folder has a long path; it stays while it is not empty.
		_ = os.Remove(filepath.Dir(dir))
	}
	return nil
}

// killShims ends shims that are not in the node's cgroup, which happens when containerd could not enter it: they are the
// processes whose program lies in the node's folder.
func killShims(ctx context.Context, config Config) error {
	processes, err := runningFrom(config.binDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range processes {
		errs = append(errs, end(ctx, p.pid))
	}
	return errors.Join(errs...)
}

// unmountBelow unmounts everything at or below dir, deepest first.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var targets []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if target := unescapeMount(fields[4]); target == dir || strings.HasPrefix(target, dir+"/") {
			targets = append(targets, target)
		}
	}
	slices.Reverse(targets) // mountinfo lists a mount after the one that it lies on
	for _, target := range targets {
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	return nil
}

// unescapeMount undoes the octal escapes of /proc/self/mountinfo.
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
