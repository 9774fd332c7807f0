// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
)

// bench runs a File in a bubble, where the test is the watcher.
type bench struct {
	*File

	events chan fsnotify.Event
	began  time.Time
	// refuse is what becomes of content.
	refuse func(content string) error

	mu sync.Mutex
	// applied are contents with the time since began.
	applied []string
}

func newBench(t *testing.T, again time.Duration) *bench {
	t.Helper()
	b := &bench{events: make(chan fsnotify.Event), began: time.Now(), refuse: func(string) error { return nil }}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	b.File, _, err = Open(Config{Path: path, Name: "test", Log: slog.New(slog.DiscardHandler), Again: again, Apply: func(_ context.Context, content []byte) error {
		b.mu.Lock()
		b.applied = append(b.applied, fmt.Sprintf("%s %v", content, time.Since(b.began)))
		b.mu.Unlock()
		return b.refuse(string(content))
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.loop(ctx, b.events, nil, func(string) error { return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return b
}

// write changes the file and tells of it.
func (b *bench) write(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(b.path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	b.events <- fsnotify.Event{Name: b.path, Op: fsnotify.Write}
}

// foreign tells of a change of another file in the folder.
func (b *bench) foreign() {
	b.events <- fsnotify.Event{Name: filepath.Join(filepath.Dir(b.path), "other"), Op: fsnotify.Write}
}

// wants holds what was applied after a while, and when.
func (b *bench) wants(t *testing.T, after time.Duration, applied ...string) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.applied, applied) {
		t.Errorf("applied %q, want %q", b.applied, applied)
	}
}

func (b *bench) failures(t *testing.T) (n float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(b.total)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == "failure" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func TestWrittenInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		for i := range 10 {
			b.write(t, fmt.Sprint("step", i))
			time.Sleep(settle * 9 / 10)
		}
		b.wants(t, time.Minute, "step9 910ms")
	})
}

// TestWrittenAllTheTime has a file that is never quiet.
func TestWrittenAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		for i := 0; time.Since(b.began) < 12*time.Second; i++ {
			b.write(t, fmt.Sprint("step", i))
			time.Sleep(30 * time.Millisecond)
		}
		// A wait begins with the first change after the last.
		b.wants(t, time.Minute, "step166 5s", "step333 10.01s", "step399 12.07s")
	})
}

// TestTriesAgain tries content again that may be applied later, neither before its time nor when nothing changed.
func TestTriesAgain(t *testing.T) {
	for again, pause := range map[time.Duration]time.Duration{0: time.Minute, 7 * time.Second: 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, again)
			b.refuse = func(content string) error {
				if content == "good" {
					return nil
				}
				return fmt.Errorf("%s: %w", content, ErrPasses)
			}
			b.write(t, "later")
			tried := []string{"later 100ms", fmt.Sprint("later ", settle+pause), fmt.Sprint("later ", settle+2*pause)}
			for range 5 {
				time.Sleep(pause / 6)
				b.foreign()
				b.write(t, "later")
			}
			b.wants(t, pause/12, tried[:1]...)
			b.wants(t, 2*pause, tried...)
			at := time.Since(b.began) + settle
			b.write(t, "latest")
			tried = append(tried, fmt.Sprint("latest ", at), fmt.Sprint("latest ", at+pause))
			b.wants(t, settle+pause, tried...)
			// What was in force is so again: there is nothing left to try.
			b.write(t, "first")
			b.wants(t, 10*pause, tried...)
			at = time.Since(b.began) + settle
			b.write(t, "good")
			b.wants(t, 10*pause, append(tried, fmt.Sprint("good ", at))...)
		})
	}
}

// TestRefusedOnce does not try again what is wrong.
func TestRefusedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		b.refuse = func(string) error { return errors.New("wrong") }
		for range 3 {
			b.write(t, "wrong")
			time.Sleep(time.Hour)
		}
		b.wants(t, time.Hour, "wrong 100ms")
		if n := b.failures(t); n != 1 {
			t.Errorf("counted %v failures, want 1", n)
		}
	})
}

// TestForeignFiles has other files in the folder change all the time: they neither delay a change nor cause a look at the file.
func TestForeignFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		b.write(t, "second")
		for range 100 {
			b.foreign()
			time.Sleep(settle / 2)
		}
		b.wants(t, 0, "second 100ms")
		if err := os.Remove(b.path); err != nil {
			t.Fatal(err)
		}
		b.events <- fsnotify.Event{Name: b.path, Op: fsnotify.Remove}
		for range 100 {
			b.foreign()
			time.Sleep(settle)
		}
		if n := b.failures(t); n != 1 {
			t.Errorf("counted %v failures to read a file that went once, want 1", n)
		}
	})
}

func TestTrail(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) []string {
		for i, name := range names {
			names[i] = filepath.Join(dir, name)
		}
		return names
	}
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700), os.WriteFile(filepath.Join(dir, "a", "b", "file"), nil, 0o600),
		os.Symlink("a/b", filepath.Join(dir, "now")), os.Symlink("../now/file", filepath.Join(dir, "a", "link")),
		os.Symlink(dir+"/a/link", filepath.Join(dir, "far")), os.Symlink("round", filepath.Join(dir, "round")), os.Symlink("gone/file", filepath.Join(dir, "nowhere")),
	); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"a/b/file": in("a/b/file"),
		"now/file": in("now", "a/b/file"),
		"far":      in("far", "a/link", "now", "a/b/file"),
		"nowhere":  in("nowhere", "gone"),
		"none/x/y": in("none"),
	} {
		if got := trail(filepath.Join(dir, path)); !slices.Equal(got, want) {
			t.Errorf("trail(%s) = %q, want %q", path, got, want)
		}
	}
	if got := trail(filepath.Join(dir, "round")); len(got) != maxLinks+1 {
		t.Errorf("trail of a link to itself has %d names", len(got))
	}
}
