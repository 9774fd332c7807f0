// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/internal/sysmon"
)

// TestContainersHaveTheSlackOfTheProcess starts a process, as containerd is started, from a thread that the runtime's monitor has passed its timer slack to.
func TestContainersHaveTheSlackOfTheProcess(t *testing.T) {
	need.Root(t, "sets the timer slack of another thread")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := sysmon.Relax(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(sysmon.Slack), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns")
	cmd.Stdout = &out
	if err := startIn("", cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); got == strconv.FormatInt(sysmon.Slack.Nanoseconds(), 10) {
		t.Errorf("what is started has the monitor's timer slack, %s ns; want that of the process", got)
	}
}
