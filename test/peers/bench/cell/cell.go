// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cell runs one measured system and its load driver in a place of their own: new network, mount, process and cgroup
// namespaces, so that two systems measured in turn on one machine share nothing and leave nothing, and so that "every process
// of the system" and "all CPU time of the system" are exact.
//
//	host            Run ── clone(NEWNET|NEWNS|NEWPID|NEWCGROUP) ──┐
//	cell, pid 1     Init: mounts, link, reaps orphans             │ cgroup /scenery
//	cell            the round: load driver, gates                 │ cgroup /scenery
//	cell            what is measured, started by Prepare and Go   │ cgroup /measured, and what it makes beside
//
// The scratch folder is bound at Dir, which is short enough for unix sockets. When process 1 ends, the kernel ends the rest.
package cell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// Dir is where a cell finds its scratch folder.
	Dir = "/run/bench"
	// Address is the cell's own address, on Link, by which its default route goes.
	Address = "192.0.2.10"
	// Link is the cell's network device.
	Link = "cell0"
	// Node is the name that a measured node registers with, and the cell's host name.
	Node = "bench-node"
)

// The first arguments by which the program knows that it is to be Init or Exec.
const (
	InitArg = "-cell-init"
	ExecArg = "-cell-exec"
)

// Config of a run.
type Config struct {
	// Folder is the scratch folder on the host.
	Folder string
	// Args start the program again inside.
	Args []string
	// Output takes what the cell says.
	Output io.Writer
}

// removeLimit bounds how long killed processes may hold the cgroups of a cell.
const removeLimit = 10 * time.Second

// Run runs this program with arguments in a new cell and returns when the cell is gone.
func Run(ctx context.Context, cfg Config) (err error) {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	name := "kogge-bench-" + strconv.Itoa(os.Getpid())
	defer func() {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeLimit)
		defer cancel()
		for _, h := range all {
			err = errors.Join(err, remove(removing, h.root(name)))
		}
	}()
	for _, h := range all {
		if err := h.create(name); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{InitArg, cfg.Folder}, cfg.Args...)...)
	cmd.Stdout, cmd.Stderr = cfg.Output, cfg.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL,
	}
	// The root of a cgroup namespace is where the process that makes it is.
	for _, h := range all {
		if err := join(h.root(name)); err != nil {
			return err
		}
	}
	startErr := cmd.Start()
	for _, h := range all {
		if err := join(h.root("")); err != nil {
			return errors.Join(startErr, err)
		}
	}
	if startErr != nil {
		return fmt.Errorf("start cell: %w", startErr)
	}
	return cmd.Wait()
}

// Init is process 1 of a cell: args are the scratch folder and the arguments of the round. It returns the exit code.
func Init(ctx context.Context, args []string) int {
	if err := furnish(ctx, args[0]); err != nil {
		fmt.Fprintln(os.Stderr, "furnish cell:", err)
		return 1
	}
	round := exec.CommandContext(ctx, "/proc/self/exe", args[1:]...)
	round.Stdout, round.Stderr = os.Stdout, os.Stderr
	if err := round.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "start round:", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "wait for round:", err)
			return 1
		case pid == round.Process.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case pid == round.Process.Pid:
			return status.ExitStatus()
		}
	}
}

// furnish makes the mounts and the network of a cell.
func furnish(ctx context.Context, folder string) error {
	if err := syscall.Sethostname([]byte(Node)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	all, err := hierarchies()
	if err != nil {
		return err
	}
	links, err := symlinks("/sys/fs/cgroup")
	if err != nil {
		return err
	}
	mounts := []struct {
		source, target, kind, options string
		flags                         uintptr
	}{
		{"none", "/", "", "", syscall.MS_REC | syscall.MS_PRIVATE},
		{"tmpfs", "/run", "tmpfs", "mode=755", 0}, // hides the sockets of the host's own services
		{folder, Dir, "", "", syscall.MS_BIND},
		{"proc", "/proc", "proc", "", 0},
		{"sysfs", "/sys", "sysfs", "", 0},
	}
	if len(all) == 0 || all[0].mount != "/sys/fs/cgroup" {
		mounts = append(mounts, struct {
			source, target, kind, options string
			flags                         uintptr
		}{"tmpfs", "/sys/fs/cgroup", "tmpfs", "mode=755", 0})
	}
	for _, m := range mounts {
		if m.target == Dir {
			if err := os.Mkdir(Dir, 0o755); err != nil {
				return err
			}
		}
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, h := range all {
		if err := h.mountAgain(); err != nil {
			return err
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join("/sys/fs/cgroup", name)); err != nil {
			return err
		}
	}
	if err := joinScenery(); err != nil {
		return err
	}
	return network(ctx)
}

// symlinks returns the names by which co-mounted v1 controllers are known, cpu -> cpu,cpuacct.
func symlinks(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read cgroup mounts: %w", err)
	}
	links := map[string]string{}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink != 0 {
			if links[e.Name()], err = os.Readlink(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return links, nil
}

// mountAgain mounts a hierarchy so that it shows the cell's cgroup as its root.
func (h hierarchy) mountAgain() error {
	if err := os.MkdirAll(h.mount, 0o755); err != nil {
		return err
	}
	kind, options := "cgroup", h.options
	if h.unified {
		kind, options = "cgroup2", ""
	} else if strings.HasPrefix(options, "name=") {
		options = "none," + options
	}
	if err := syscall.Mount(kind, h.mount, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", h.mount, err)
	}
	return nil
}

// joinScenery moves this process into the cgroup whose use is not counted; what it starts stays there.
func joinScenery() error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if err := join(filepath.Join(h.mount, Scenery)); err != nil {
			return err
		}
	}
	return nil
}

// network gives the cell a link with an address and a default route, as a machine has.
func network(ctx context.Context) error {
	for _, line := range []string{
		"link set lo up",
		"link add " + Link + " type veth peer name cell1",
		"link set cell1 up",
		"link set " + Link + " up",
		"addr add " + Address + "/24 dev " + Link,
		"route add default via 192.0.2.1 dev " + Link,
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}
