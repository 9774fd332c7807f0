// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"kogge.dev/kogge/cluster/node"
	"kogge.dev/kogge/cri/containerd/embedded"
)

// killserver [SIGNAL]: ends the process that runs node 0, by SIGKILL unless told otherwise.
func killServer(ts *testscript.TestScript, _ bool, args []string) {
	signal := "SIGKILL"
	if len(args) == 1 {
		signal = args[0]
	}
	kill(ts, filepath.Join(of(ts).data(0), "kogge.lock"), signal)
}

// killruntime: kill -9 of the containerd of node 0. Shims stay.
func killRuntime(ts *testscript.TestScript, _ bool, _ []string) {
	kill(ts, filepath.Join(node.PathsOf(of(ts).data(0), "").Run, "ctd", "containerd.pid"), "SIGKILL")
}

// pidIn reads which process wrote a record.
func pidIn(record string) (int, error) {
	text, err := os.ReadFile(record)
	if err != nil {
		return 0, err
	}
	var r struct{ PID int }
	err = json.Unmarshal(text, &r)
	return r.PID, err
}

// kill ends the process that a record names and waits for its end.
func kill(ts *testscript.TestScript, record, signal string) {
	pid, err := pidIn(record)
	ts.Check(err)
	number := unix.SignalNum(signal)
	if number == 0 {
		ts.Fatalf("no signal is named %s", signal)
	}
	ts.Check(syscall.Kill(pid, number))
	// The locks of a process are free once it is a zombie, not when its program is gone, and its first thread may be one before the others.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)) // none when it is gone
		if err != nil || bytes.Contains(state, []byte(") Z ")) && len(threads) <= 1 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("process %d goes on after %s", pid, signal)
		}
	}
}

// pods FILE: what a start over running pods must not change: their addresses, containers, restarts and processes.
func pods(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: pods FILE")
	}
	m := of(ts)
	list, stderr, err := m.run(0, "/", m.program("kubectl"), "get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.podIP}`+
		`{range .status.containerStatuses[*]} {.containerID} {.restartCount}{end}{"\n"}{end}`)
	if err != nil {
		ts.Fatalf("list pods: %v\n%s", err, stderr)
	}
	processes, err := m.podProcesses("one")
	ts.Check(err)
	if len(processes) == 0 {
		ts.Fatalf("no process runs in the pods")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(list+strings.Join(processes, "\n")+"\n"), 0o644))
}

// podProcesses lists the host pids of all that runs in pods of node 0, by their cgroups.
func (m *machine) podProcesses(name string) ([]string, error) {
	own := node.PathsOf(m.data(0), "").Cgroup + name
	roots, err := filepath.Glob("/sys/fs/cgroup/*" + own)
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, root := range append(roots, "/sys/fs/cgroup"+own) {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case entry.IsDir() && path == filepath.Join(root, "runtime"):
				return fs.SkipDir
			case entry.Name() != "cgroup.procs":
				return nil
			}
			text, err := os.ReadFile(path)
			pids = append(pids, strings.Fields(string(text))...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// binary N: from now on the scripts run build N: 0 is the one under test, the others differ from it in their own bytes and in
// those of the helper programs that they embed.
func binary(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: binary N")
	}
	m := of(ts)
	m.kogge = m.program("kogge")
	if args[0] == "0" {
		return
	}
	data, err := os.ReadFile(m.kogge)
	ts.Check(err)
	for _, name := range []string{embedded.Shim, embedded.Runc} {
		program, err := embedded.Read(name)
		ts.Check(err)
		at := bytes.Index(data, program)
		if at < 0 {
			ts.Fatalf("bin/kogge embeds another %s than this test: run 'make build'", name)
		}
		data[at+15] = args[0][0] // the last byte of an ELF file's identification is padding
	}
	digest := embedded.Digest()
	if bytes.Count(data, []byte(digest)) != 1 {
		ts.Fatalf("bin/kogge does not hold the digest %s once", digest)
	}
	copy(data[bytes.Index(data, []byte(digest)):], (args[0] + strings.Repeat("0", len(digest)))[:len(digest)])
	m.kogge = filepath.Join(m.dir, "kogge-"+args[0])
	ts.Check(os.WriteFile(m.kogge, data, 0o755))
}
