// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package hostnet makes links, addresses, routes, neighbours and sysctls of one network namespace equal to what is asked
// for. Every Ensure call is idempotent and says whether it changed something; every Delete call is content with nothing
// to delete. It keeps no state and no ledger: callers record what they make.
//
// A Host speaks to its namespace over netlink sockets that were opened inside it, so that no call depends on the
// namespace of the calling thread. Only sysctls, which are files, need a thread of their own (Namespace.Do).
package hostnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace. It holds a file descriptor until Close.
type Namespace struct {
	file *os.File
}

// Open opens the namespace at path, as /proc/<pid>/ns/net or the mount that CreateNamespace made. The empty path means the
// namespace of this process.
func Open(path string) (*Namespace, error) {
	if path == "" {
		path = "/proc/self/ns/net"
	}
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &fs); err != nil {
		return nil, errors.Join(fmt.Errorf("open network namespace %s: %w", path, err), file.Close())
	}
	if fs.Type != unix.NSFS_MAGIC && fs.Type != unix.PROC_SUPER_MAGIC {
		return nil, errors.Join(fmt.Errorf("open network namespace %s: %w", path, ErrNoNamespace), file.Close())
	}
	return &Namespace{file: file}, nil
}

// ErrNoNamespace is returned by Open for a file that is no namespace: the mount that held one is gone, after a reboot say.
var ErrNoNamespace = errors.New("not a namespace")

// CreateNamespace makes a new network namespace that lives until RemoveNamespace: it is mounted on path, which must not
// exist. Its loopback is down.
func CreateNamespace(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return errors.Join(fmt.Errorf("create network namespace %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// RemoveNamespace undoes CreateNamespace. Processes inside keep the namespace alive until they end.
func RemoveNamespace(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// FD is the descriptor of the namespace, valid until Close.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Close releases the descriptor.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs f on a thread inside the namespace and returns its error. f must not start goroutines that expect the same, nor
// keep what depends on the thread.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which ends afterwards: a thread that changed its namespace is never given back
// to the scheduler.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		result <- f()
	}()
	return <-result
}
