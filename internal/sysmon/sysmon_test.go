// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package sysmon

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kogge.dev/kogge/internal/need"
)

func TestRelax(t *testing.T) {
	need.Root(t, "sets the timer slack of another thread")
	relax(t)
	thread, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(slackFile(thread))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(text)), nanoseconds(Slack); got != want {
		t.Errorf("timer slack of thread %s = %s ns; want %s", thread, got, want)
	}
}

// TestUnrelaxed starts a process from a thread as the monitor starts them: it has the monitor's slack, and by Unrelaxed that of this process.
func TestUnrelaxed(t *testing.T) {
	need.Root(t, "sets the timer slack of another thread")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	relax(t)
	before := time.Duration(inherited.Load())
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(Slack), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	started := func(start func(func() error) error) string {
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns")
		cmd.Stdout = &out
		if err := start(cmd.Start); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	if got, want := started(func(f func() error) error { return f() }), nanoseconds(Slack); got != want {
		t.Errorf("a process that such a thread starts has a slack of %s ns; want %s", got, want)
	}
	if got, want := started(Unrelaxed), nanoseconds(before); got != want || before == Slack {
		t.Errorf("a process that is started by Unrelaxed has a slack of %s ns; want %s", got, want)
	}
}

func relax(t *testing.T) {
	t.Helper()
	if err := Relax(); err != nil {
		t.Fatal(err)
	}
}

func nanoseconds(d time.Duration) string { return strconv.FormatInt(d.Nanoseconds(), 10) }

// TestMonitorIsFound by what no other thread does: it sleeps for a while by nanosleep(2), again and again while others run.
func TestMonitorIsFound(t *testing.T) {
	thread, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	sleeps := 0
	for begin := time.Now(); sleeps < 20; {
		text, err := os.ReadFile("/proc/self/task/" + thread + "/syscall")
		if err != nil {
			t.Fatal(err)
		}
		if number, _, _ := strings.Cut(string(text), " "); number == strconv.Itoa(syscall.SYS_NANOSLEEP) {
			sleeps++
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("thread %s was seen to sleep %d times in ten seconds of work; want 20", thread, sleeps)
		}
	}
}
