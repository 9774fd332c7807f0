// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// climbing are samples a minute apart of a kogge that grows by so many MiB in each.
func climbing(minutes int, perMinute float64) []sample {
	var out []sample
	for i := range minutes + 1 {
		s := sample{at: time.Unix(int64(60*i), 0)}
		s.kogge.anonymous = int64((100 + perMinute*float64(i)) * mebi)
		out = append(out, s)
	}
	return out
}

func TestSlopeIsPerHour(t *testing.T) {
	t.Parallel()
	anonymous := quantities[1].of
	if got := slope(climbing(10, 0.5), anonymous); math.Abs(got-30) > 1e-6 {
		t.Errorf("slope of 0.5 MiB a minute = %v, want 30", got)
	}
	zigzag := climbing(40, 0)
	for i := range zigzag {
		zigzag[i].kogge.anonymous += int64(i%2) * 20 * mebi
	}
	if got := slope(zigzag, anonymous); math.Abs(got) > 1 {
		t.Errorf("slope of a zigzag = %v, want about 0", got)
	}
	if got := slope(nil, anonymous); !math.IsNaN(got) {
		t.Errorf("slope of nothing = %v, want NaN", got)
	}
}

func TestTableNamesWhatIsOverItsBound(t *testing.T) {
	t.Parallel()
	before := reading{goroutines: 100, mounts: 20}
	near := reading{goroutines: 100 + slackGoroutines, mounts: 20}
	if !returned(before, near) {
		t.Error("returned() = false within the slack")
	}
	if text, failed := table(before, near, climbing(30, 0.5), false); len(failed) > 0 {
		t.Errorf("table() finds %q:\n%s", failed, text)
	}
	far := reading{goroutines: 101 + slackGoroutines, mounts: 21, heap: 100 * mebi}
	if returned(before, far) {
		t.Error("returned() = true beyond the slack")
	}
	text, failed := table(before, far, climbing(30, 2), false)
	if want := []string{"kogge: anonymous MiB", "kogge: live heap MiB", "kogge: goroutines", "mounts"}; !slices.Equal(failed, want) {
		t.Errorf("table() finds %q, want %q:\n%s", failed, want, text)
	}
	if text, failed := table(before, before, climbing(5, 2), false); len(failed) > 0 || !strings.Contains(text, "too short to judge") {
		t.Errorf("five minutes of climbing are judged: %q\n%s", failed, text)
	}
}

func TestProcessesAreToldByTheirCommand(t *testing.T) {
	t.Parallel()
	var r reading
	for command, want := range map[string]*program{
		"/x/kogge up --detached":        &r.kogge,
		"/x/kogge containerd-child -c":  &r.containerd,
		"/x/containerd-shim-runc-v2 -n": &r.shims,
		"/x/kogge kubectl exec":         nil,
		"/x/soak":                       nil,
	} {
		if got := r.role(strings.Split(command, " ")); got != want {
			t.Errorf("role(%s) is another one", command)
		}
	}
	if r.helpers != 0 || r.role([]string{"/x/runc", "create"}) != nil || r.helpers != 1 {
		t.Errorf("runc: %d helpers", r.helpers)
	}
	got := statusOf([]byte("Name:\tkogge\nState:\tZ (zombie)\nPPid:\t7\nVmRSS:\t  12 kB\nRssAnon:\t 8 kB\nThreads:\t3\n"))
	if want := (processStatus{zombie: true, parent: 7, threads: 3, resident: 12 << 10, anonymous: 8 << 10}); got != want {
		t.Errorf("statusOf = %+v, want %+v", got, want)
	}
}

func TestProfilesAreRead(t *testing.T) {
	t.Parallel()
	const before = "goroutine profile: total 3\n2 @ 0x1 0x2\n#\t0x1\ta.Wait+0x12\t/a.go:1\n#\t0x2\tb.Run+0x3\t/b.go:2\n\n1 @ 0x3\n#\t0x3\tc.Run+0x1\t/c.go:3\n\n"
	after := strings.Replace(before, "2 @", "5 @", 1)
	dir := t.TempDir()
	for name, text := range map[string]string{"before": before, "after": after} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := grown(filepath.Join(dir, "before"), filepath.Join(dir, "after"))
	if want := "3 goroutines more (5):\n  a.Wait /a.go:1\n  b.Run /b.go:2\n"; err != nil || got != want {
		t.Errorf("grown = %q, %v; want %q", got, err, want)
	}
	if n, err := total([]byte(before)); err != nil || n != 3 {
		t.Errorf("total = %d, %v", n, err)
	}
	if _, err := total([]byte("forbidden")); err == nil {
		t.Error("total of no profile is no error")
	}
	if n, err := heapOf([]byte("# Alloc = 1\n# HeapAlloc = 42\n# HeapSys = 2\n")); err != nil || n != 42 {
		t.Errorf("heapOf = %d, %v", n, err)
	}
}
