// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// record is the content of containerd.pid: which process serves the sockets of this node.
type record struct {
	PID int `json:"pid"`
	// StartTime is the process's start in clock ticks since boot: with PID it names one process, even after its
	// number was given away again.
	StartTime string `json:"startTime"`
	// Identity is Supervisor.identity at its start.
	Identity string `json:"identity"`
}

// readRecord returns the recorded process and whether it is alive. A missing or unreadable record counts as dead.
func readRecord(path string) (record, bool) {
	var r record
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &r) != nil || r.PID <= 1 {
		return record{}, false
	}
	now, err := startTime(r.PID)
	return r, err == nil && now == r.StartTime
}

// writeRecord records a process that was just started.
func writeRecord(path string, pid int, identity string) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	data, err := json.Marshal(record{PID: pid, StartTime: start, Identity: identity})
	if err != nil {
		return fmt.Errorf("record containerd process: %w", err)
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("record containerd process: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record containerd process: %w", err)
	}
	return nil
}

// startTime reads field 22 of /proc/<pid>/stat. A zombie has ended.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The second field is the program's name in parentheses and may hold anything, parentheses too.
	rest := data[bytes.LastIndexByte(data, ')')+1:]
	fields := strings.Fields(string(rest))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("look at process %d: it has ended", pid)
	}
	return fields[19], nil
}
