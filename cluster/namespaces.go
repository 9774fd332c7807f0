// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"kogge.dev/kogge/cri/containerd"
)

// namespace is a kind of namespace that a node's pods tie the node to, as /proc names it.
type namespace struct {
	name string
	flag int
}

// nodeNamespaces hold what running pods hang on: their mounts, and the bridge at the other end of their links.
var nodeNamespaces = []namespace{{"mnt", unix.CLONE_NEWNS}, {"net", unix.CLONE_NEWNET}}

// rejoin returns if this process shares the namespaces of the node's running pods, or if none run. Else it executes this
// program again in there and does not return: a service manager may give every start a mount namespace of its own, in which
// the volumes and network namespaces of the pods would be missing. Namespaces are entered by the whole process, at exec,
// because threads that disagree about them cannot be told apart later.
func rejoin(config containerd.Config, log *slog.Logger) error {
	shims, err := containerd.Shims(config)
	if err != nil || len(shims) == 0 {
		return err
	}
	var elsewhere []namespace
	for _, ns := range nodeNamespaces {
		theirs, err := os.Readlink(namespacePath(shims[0], ns))
		if err != nil {
			return fmt.Errorf("look at the namespaces of running pods: %w", err)
		}
		ours, err := os.Readlink(namespacePath(os.Getpid(), ns))
		if err != nil {
			return fmt.Errorf("look at own namespaces: %w", err)
		}
		if theirs != ours {
			elsewhere = append(elsewhere, ns)
		}
	}
	if len(elsewhere) == 0 {
		return nil
	}
	log.Info("pods run in other namespaces, going there", "pid", shims[0])
	return execInside(shims[0], elsewhere)
}

// execInside executes this program again in namespaces of the process pid.
func execInside(pid int, namespaces []namespace) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // for good: this thread becomes the process
	// A thread may change its mount namespace only if it shares its root and working folder with no other thread.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the threads' shared root: %w", err)
	}
	var files []*os.File // all are opened before the first is entered: /proc may change
	for _, ns := range namespaces {
		file, err := os.Open(namespacePath(pid, ns))
		if err != nil {
			return fmt.Errorf("open namespace of running pods: %w", err)
		}
		defer file.Close()
		files = append(files, file)
	}
	for i, ns := range namespaces {
		if err := unix.Setns(int(files[i].Fd()), ns.flag); err != nil {
			return fmt.Errorf("enter %s namespace of running pods: %w", ns.name, err)
		}
	}
	// Paths on the command line may be relative. A folder that is not there is found out by who opens them.
	_ = unix.Chdir(folder)
	if err := syscall.Exec(exe, os.Args, os.Environ()); err != nil {
		return fmt.Errorf("execute %s beside running pods (kogge down ends them): %w", exe, err)
	}
	return nil
}

func namespacePath(pid int, ns namespace) string {
	return "/proc/" + strconv.Itoa(pid) + "/ns/" + ns.name
}
