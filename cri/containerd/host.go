// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostFacts are the properties of this machine that the configuration depends on.
type hostFacts struct {
	// restrictOOM says that CAP_SYS_RESOURCE is missing, so that oom_score_adj can only be raised.
	restrictOOM bool
	// snapshotter is overlayfs, or native where the data folder cannot hold an overlay.
	snapshotter string
	// platform is the image platform of this machine, as "linux/amd64".
	platform string
}

// inspectHost looks at this machine. dataDir must exist.
func inspectHost(dataDir string) (hostFacts, error) {
	facts := hostFacts{snapshotter: "overlayfs", platform: "linux/" + runtime.GOARCH}
	missing, err := lacksCapability(unix.CAP_SYS_RESOURCE)
	if err != nil {
		return facts, err
	}
	facts.restrictOOM = missing
	if err := tryOverlay(dataDir); err != nil {
		facts.snapshotter = "native"
	}
	return facts, nil
}

// lacksCapability reports whether this process's effective set is without the capability.
func lacksCapability(capability int) (bool, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		value, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return false, fmt.Errorf("read capabilities: %w", err)
		}
		return set&(1<<capability) == 0, nil
	}
	return false, errors.New("read capabilities: /proc/self/status names no CapEff")
}

// tryOverlay mounts and unmounts an overlay of empty folders below dir.
func tryOverlay(dir string) (err error) {
	base, err := os.MkdirTemp(dir, ".overlay-check-")
	if err != nil {
		return fmt.Errorf("check overlayfs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, sub), 0o700); err != nil {
			return fmt.Errorf("check overlayfs: %w", err)
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		filepath.Join(base, "lower"), filepath.Join(base, "upper"), filepath.Join(base, "work"))
	merged := filepath.Join(base, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		return fmt.Errorf("check overlayfs: %w", err)
	}
	if err := unix.Unmount(merged, 0); err != nil {
		return fmt.Errorf("check overlayfs: %w", err)
	}
	return nil
}
