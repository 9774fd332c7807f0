// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSpanCopiesTheLinesOfATime(t *testing.T) {
	dir := t.TempDir()
	log, target := filepath.Join(dir, "log"), filepath.Join(dir, "part")
	text := `time=2026-01-02T10:00:00.500Z level=INFO msg=before
time=2026-01-02T10:00:01.500Z level=INFO msg=first
goroutine 7 [running]:
time="2026-01-02T10:00:02Z" level=warning msg="of containerd"
time=2026-01-02T10:00:03.500Z level=INFO msg=after
goroutine 8 [running]:
`
	if err := os.WriteFile(log, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(second int) time.Time { return time.Date(2026, 1, 2, 10, 0, second, 0, time.UTC) }
	if err := span(log, target, at(1), at(3)); err != nil {
		t.Fatal(err)
	}
	want := `time=2026-01-02T10:00:01.500Z level=INFO msg=first
goroutine 7 [running]:
time="2026-01-02T10:00:02Z" level=warning msg="of containerd"
`
	if got, err := os.ReadFile(target); err != nil || string(got) != want {
		t.Errorf("span copied %q, %v, want %q", got, err, want)
	}
	if err := span(filepath.Join(dir, "none"), target, at(1), at(3)); err != nil {
		t.Errorf("span of a log that is not there: %v", err)
	}
}

func TestShortNameIsAFileName(t *testing.T) {
	got := shortName("[sig-node] Pods should *not* be / restarted [NodeConformance] [Conformance]")
	if want := "sig-node-Pods-should-not-be-restarted-NodeConformance-Conformance"; got != want {
		t.Errorf("shortName = %q, want %q", got, want)
	}
}
