// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package sysmon

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kogge.dev/kogge/internal/need"
)

func TestRelax(t *testing.T) {
	need.Root(t, "sets the timer slack of another thread")
	if err := Relax(); err != nil {
		t.Fatal(err)
	}
	thread, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(slackFile(thread))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(text)), strconv.FormatInt(Slack.Nanoseconds(), 10); got != want {
		t.Errorf("timer slack of thread %s = %s ns; want %s", thread, got, want)
	}
}

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
