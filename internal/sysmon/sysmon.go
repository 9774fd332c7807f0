// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package sysmon has the monitor of Go's runtime look after the process less often.
//
// The monitor is a thread of its own that sleeps for 20 µs at a time while anything runs, and for longer only after a millisecond in which it found nothing
// to do; when all is idle it stops, to begin anew with the next thing that runs. A server that is asked something every few milliseconds has it awake all
// the time, for thousands of wake-ups a second, each a timer and two switches of threads: up to a fifth of what such a server takes
// (docs/measurements.md).
package sysmon

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Slack is how much later than it asked to the monitor may be woken. What it is there for is late by as much: to take a processor away from a
// system call that blocks, where other goroutines wait for one, and from a goroutine that has had it for 10 ms.
const Slack = time.Millisecond

// inherited is the timer slack that the process began with, in nanoseconds; zero before Relax.
var inherited atomic.Int64

// Relax lets the kernel wake the monitor up to Slack late, or together with what wakes the processor anyway: it sets the thread's timer slack (prctl(2)),
// which is refused to who may not set priorities (CAP_SYS_NICE). Threads have the slack of the one that started them, and the monitor starts some: timers of
// this process may be late by Slack, too. Processes that it starts inherit it likewise; those that Unrelaxed starts do not.
func Relax() error {
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("timer slack of the process: %w", err)
	}
	thread, err := monitor()
	if err != nil {
		return fmt.Errorf("find the runtime's monitor: %w", err)
	}
	inherited.CompareAndSwap(0, int64(slack))
	if err := os.WriteFile(slackFile(thread), strconv.AppendInt(nil, Slack.Nanoseconds(), 10), 0); err != nil {
		return fmt.Errorf("set the timer slack of the runtime's monitor: %w", err)
	}
	return nil
}

// Unrelaxed runs f on a thread with the timer slack that this process began with, which is what a process has that f starts.
func Unrelaxed(f func() error) error {
	slack := inherited.Load()
	if slack == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack back: %w", err)
	}
	return f()
}

func slackFile(thread string) string { return "/proc/" + thread + "/timerslack_ns" }

// monitor returns the thread id of the monitor: the runtime starts it before all other threads, and the kernel lists threads in the order in which they were
// started, the process's first one before them.
func monitor() (thread string, err error) {
	dir, err := os.Open("/proc/self/task")
	if err != nil {
		return "", err
	}
	defer dir.Close()
	threads, err := dir.Readdirnames(-1)
	if err != nil {
		return "", err
	}
	if len(threads) < 2 {
		return "", errors.New("the process has one thread")
	}
	return threads[1], nil
}
