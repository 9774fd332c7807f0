// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package sysmon has the monitor of Go's runtime look after the process less often.
//
// The monitor is a thread of its own that sleeps for 20 µs at a time while anything runs, and for longer only after a millisecond in which it found nothing
// to do; when all is idle it stops, to begin anew with the next thing that runs. A server that is asked something every few milliseconds has it awake all
// the time, for thousands of wake-ups a second, each a timer and two switches of threads: a fifth of what a quiet server takes.
package sysmon

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// Slack is how much later than it asked to the monitor may be woken. What it is there for is late by as much: to take a processor away from a
// system call that blocks, where other goroutines wait for one, and from a goroutine that has had it for 10 ms.
const Slack = time.Millisecond

// Relax lets the kernel wake the monitor up to Slack late, or together with what wakes the processor anyway (the thread's timer slack, prctl(2)). It is refused to
// who may not set priorities (CAP_SYS_NICE); the monitor goes on as before then.
func Relax() error {
	thread, err := monitor()
	if err != nil {
		return fmt.Errorf("let the runtime's monitor sleep longer: %w", err)
	}
	if err := os.WriteFile(slackFile(thread), strconv.AppendInt(nil, Slack.Nanoseconds(), 10), 0); err != nil {
		return fmt.Errorf("let the runtime's monitor sleep longer: %w", err)
	}
	return nil
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
		return "", fmt.Errorf("the process has %d threads", len(threads))
	}
	return threads[1], nil
}
