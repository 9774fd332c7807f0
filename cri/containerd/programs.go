// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"kogge.dev/kogge/cri/containerd/embedded"
)

// The shim and runc lie in a folder that is named after the digest of their set:
//
//	<DataDir>/bin/<digest>/{containerd-shim-runc-v2,runc}
//
// A pod keeps the set that it was started with: its shim goes on calling the runc beside it, and containerd deletes with
// the shim that a bundle names. So a kogge with other programs adds its set, and a set goes when no pod uses it any more.

// extractPrograms writes the programs of this binary.
func (c Config) extractPrograms() error {
	return errors.Join(embedded.Extract(embedded.Shim, c.shimPath()), embedded.Extract(embedded.Runc, c.runcPath()))
}

// sweepPrograms removes the sets of other binaries that neither a bundle nor a process uses.
func (c Config) sweepPrograms() error {
	sets, err := os.ReadDir(c.binDir())
	if err != nil {
		return fmt.Errorf("list sets of programs: %w", err)
	}
	if len(sets) == 1 {
		return nil // ours
	}
	used, err := c.usedPrograms()
	if err != nil {
		return err
	}
	for _, set := range sets {
		if set.Name() == c.programs || used[set.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.binDir(), set.Name())); err != nil {
			return fmt.Errorf("remove unused set of programs: %w", err)
		}
	}
	return nil
}

// usedPrograms returns the names of the sets that pods use. Only the bundle of a sandbox names its shim; its containers
// share it.
func (c Config) usedPrograms() (map[string]bool, error) {
	used := map[string]bool{}
	use := func(program string) {
		if inside, ok := strings.CutPrefix(program, c.binDir()+"/"); ok {
			set, _, _ := strings.Cut(inside, "/")
			used[set] = true
		}
	}
	bundles, err := c.bundles()
	if err != nil {
		return nil, err
	}
	for _, bundle := range bundles {
		program, err := os.ReadFile(filepath.Join(bundle, "shim-binary-path"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read program of bundle: %w", err)
		}
		use(string(program))
	}
	processes, err := runningFrom(c.binDir())
	if err != nil {
		return nil, err
	}
	for _, p := range processes {
		use(p.exe)
	}
	return used, nil
}

// bundles lists the folders that hold what containerd must know of each sandbox and container after a restart.
func (c Config) bundles() ([]string, error) {
	bundles, err := filepath.Glob(filepath.Join(c.state(), "io.containerd.runtime.v2.task", "*", "*"))
	if err != nil {
		return nil, fmt.Errorf("list bundles: %w", err)
	}
	return bundles, nil
}

// Shims returns the process ids of the node's shims, one per pod. They live in the namespaces in which the node was
// started, where its mounts and links are.
func Shims(config Config) ([]int, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if bundles, err := config.bundles(); err != nil || len(bundles) == 0 {
		return nil, err
	}
	processes, err := runningFrom(config.binDir())
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range processes {
		if filepath.Base(p.exe) == filepath.Base(config.shimPath()) {
			pids = append(pids, p.pid)
		}
	}
	return pids, nil
}

// process is a process and the path of its program.
type process struct {
	pid int
	exe string
}

// runningFrom lists the processes whose program lies below dir.
func runningFrom(dir string) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscanf(entry.Name(), "%d", &pid); err != nil {
			continue
		}
		// The kernel marks a program whose file is gone.
		exe, err := os.Readlink("/proc/" + entry.Name() + "/exe")
		if exe = strings.TrimSuffix(exe, " (deleted)"); err == nil && strings.HasPrefix(exe, dir+"/") {
			found = append(found, process{pid: pid, exe: exe})
		}
	}
	return found, nil
}
