// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// record says which process runs a cluster. It is written by the process that holds the lock on it.
type record struct {
	PID  int    `json:"pid"`
	Role Role   `json:"role"`
	Node string `json:"node"`
}

// homeOf is the folder of a process of a data folder: its lock and its ledger lie there. A component that runs alone has its own,
// so that it shares the data folder with others.
func homeOf(dataDir string, role Role) string {
	switch role {
	case RoleAll, RoleServer, RoleAgent:
		return dataDir
	default:
		return filepath.Join(dataDir, "alone", string(role))
	}
}

// homesOf lists the folders of all processes that a data folder may have, those of components that run alone first.
func homesOf(dataDir string) []string {
	var homes []string
	for _, part := range parts {
		if home := homeOf(dataDir, Role(part)); exists(home) {
			homes = append(homes, home)
		}
	}
	return append(homes, dataDir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// nodeOf returns the name of the node whose data a folder holds: what ran there last, else what the settings say.
func nodeOf(settings Settings) string {
	for _, home := range []string{homeOf(settings.DataDir, RoleKubelet), settings.DataDir} {
		text, err := os.ReadFile(lockPath(home))
		var r record
		if err == nil && json.Unmarshal(text, &r) == nil && r.Node != "" {
			return r.Node
		}
	}
	return settings.Node.Name
}

func lockPath(home string) string { return filepath.Join(home, "kogge.lock") }

// ledgerPath is the ledger of one process.
func ledgerPath(home string) string { return filepath.Join(home, "ledger") }

// LogPath is where a detached cluster logs.
func LogPath(dataDir string) string { return filepath.Join(dataDir, "kogge.log") }

// lock makes this process the only one of a home.
func lock(home string, role Role, node string) (unlock func(), err error) {
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	file, err := os.OpenFile(lockPath(home), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("a kogge runs in %s already; 'kogge down' with its --data-dir stops it", home)
		}
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	text, err := json.Marshal(record{PID: os.Getpid(), Role: role, Node: node})
	if err == nil {
		if err = file.Truncate(0); err == nil {
			_, err = file.WriteAt(text, 0)
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("write %s: %w", lockPath(home), err)
	}
	return func() { file.Close() }, nil
}

// running returns the process that holds a home, or false.
func running(home string) (record, bool, error) {
	file, err := os.Open(lockPath(home))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, err
	}
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return record{}, false, nil // nobody holds it; closing gives it up
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return record{}, false, err
	}
	var r record
	if err := json.NewDecoder(file).Decode(&r); err != nil {
		return r, false, fmt.Errorf("read %s: %w", lockPath(home), err)
	}
	return r, true, nil
}

// runningAll returns the processes of a data folder.
func runningAll(dataDir string) ([]record, error) {
	var all []record
	for _, home := range homesOf(dataDir) {
		r, alive, err := running(home)
		if err != nil {
			return nil, err
		}
		if alive {
			all = append(all, r)
		}
	}
	return all, nil
}

// Detach starts a role in the background, shows its progress, and returns when it is ready. A cluster that runs already is
// fine.
func Detach(ctx context.Context, settings Settings, role Role, out io.Writer) error {
	if err := owned(settings.DataDir); err != nil {
		return err
	}
	if r, alive, err := running(settings.DataDir); err != nil || alive {
		if alive {
			fmt.Fprintf(out, "a cluster runs already in %s (process %d)\n", settings.DataDir, r.PID)
		}
		return err
	}
	if err := precheck(ctx, settings, role); err != nil {
		return err
	}
	if err := os.MkdirAll(settings.DataDir, 0o755); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	child, progress, err := spawn(settings, role)
	if err != nil {
		return err
	}
	defer progress.Close()
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(progress); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			_ = child.Process.Signal(syscall.SIGTERM) // it may have ended
			return ctx.Err()
		case line, ok := <-lines:
			switch {
			case !ok:
				return failedStart(settings.DataDir, <-ended)
			case line == readyLine:
				return nil
			}
			fmt.Fprintln(out, line)
		}
	}
}

// spawn starts this binary in a session of its own, with its log in a file and its progress in a pipe.
func spawn(settings Settings, role Role) (*exec.Cmd, io.ReadCloser, error) {
	path := filepath.Join(settings.DataDir, "settings.json")
	text, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, nil, fmt.Errorf("write settings: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	logFile, err := os.OpenFile(LogPath(settings.DataDir), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	defer logFile.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer writer.Close()
	child := exec.Command(exe, string(role), "--config", path) //nolint:noctx // it outlives this command
	child.Stdout, child.Stderr = writer, logFile
	child.Dir = "/"
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		reader.Close()
		return nil, nil, fmt.Errorf("start in the background: %w", err)
	}
	return child, reader, nil
}

// failedStart explains the end of a background process by the last line that it wrote, which is its error.
func failedStart(dataDir string, err error) error {
	text, readErr := os.ReadFile(LogPath(dataDir))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], "kogge: ")
	if readErr != nil || last == "" {
		return fmt.Errorf("the cluster did not start: %w", err)
	}
	return fmt.Errorf("the cluster did not start: %s; more is in %s", last, LogPath(dataDir))
}

// stopGrace bounds how long a process may take to stop before it is killed: all that it holds survives a kill.
const stopGrace = 15 * time.Second

// stop ends the processes of a data folder that run, one after the other: components before the server that they talk to.
func stop(ctx context.Context, dataDir string, out io.Writer) error {
	all, err := runningAll(dataDir)
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := end(ctx, r, out); err != nil {
			return err
		}
	}
	return nil
}

// end ends one process, and kills it if it takes too long.
func end(ctx context.Context, r record, out io.Writer) error {
	if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop process %d: %w", r.PID, err)
	}
	fd, err := unix.PidfdOpen(r.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", r.PID, err)
	}
	defer unix.Close(fd)
	gone, err := exited(ctx, fd, stopGrace)
	if err != nil || gone {
		return err
	}
	fmt.Fprintf(out, "process %d did not stop within %v; killing it\n", r.PID, stopGrace)
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", r.PID, err)
	}
	_, err = exited(ctx, fd, stopGrace)
	return err
}

// exited waits for the process of a pidfd to end.
func exited(ctx context.Context, fd int, limit time.Duration) (bool, error) {
	deadline := time.Now().Add(limit)
	for ctx.Err() == nil {
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(left, 200*time.Millisecond).Milliseconds())+1)
		if n > 0 {
			return true, nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
	}
	return false, ctx.Err()
}
