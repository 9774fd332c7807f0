// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"

	"kogge.dev/kogge/store"
)

// TestFilledSegmentsBecomeTheLog and hold what is written.
func TestFilledSegmentsBecomeTheLog(t *testing.T) {
	e := openOwn(t, t.TempDir())
	written := map[string][]byte{}
	write := func() {
		value := make([]byte, 256<<10)
		_, _ = rand.NewChaCha8([32]byte{byte(len(written))}).Read(value) // It does not fail.
		key := fmt.Sprintf("/registry/%d", len(written))
		if _, err := e.Create(t.Context(), key, value, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		written[key] = value
		e.fill.running.Wait()
	}
	dir := e.fill.dir
	var filled os.FileInfo
	for filled == nil { // until the one is there that etcd did not make
		write()
		if len(written) > 32 {
			t.Fatalf("no segment was filled in %d writes: %v", len(written), names(t, dir))
		}
		if next := segments(t, dir, nextSegments[:]...); len(next) == len(nextSegments) {
			slices.SortFunc(next, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
			filled = next[1]
		}
	}
	if filled.Size() != segmentBytes {
		t.Errorf("the filled segment has %d bytes, want %d", filled.Size(), segmentBytes)
	}
	for became := false; !became; {
		write()
		if len(written) > 96 {
			t.Fatalf("the filled segment %s did not become one of the log in %d writes: %v", filled.Name(), len(written), names(t, dir))
		}
		became = slices.ContainsFunc(segments(t, dir, names(t, dir)...), func(s os.FileInfo) bool {
			return os.SameFile(s, filled) && filepath.Ext(s.Name()) == ".wal"
		})
	}
	for range 32 {
		write()
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openOwn(t, filepath.Dir(filepath.Dir(dir)))
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	for key, want := range written {
		if got, _, err := e.Get(t.Context(), key); err != nil || !bytes.Equal(got.Value, want) {
			t.Errorf("%s is not what was written: %d bytes, %v", key, len(got.Value), err)
		}
	}
	if slices.Contains(names(t, dir), spareSegment) {
		t.Errorf("%s is left", spareSegment)
	}
}

// TestPrefillTouchesNothingOfEtcds where both segments are there, none is, or etcd makes the one at the same moment.
func TestPrefillTouchesNothingOfEtcds(t *testing.T) {
	p := &prefiller{dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	if err := p.fill(); err != nil || len(names(t, p.dir)) > 0 {
		t.Errorf("fill without a segment of etcd's = %v, %v, want nothing", err, names(t, p.dir))
	}
	for _, name := range nextSegments {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.fill(); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(p.dir, name)); err != nil || string(data) != name {
			t.Errorf("%s holds %.20q, %v, want what etcd wrote", name, data, err)
		}
		if name == nextSegments[0] { // The other was made; etcd takes it, and makes its own.
			if err := os.Remove(filepath.Join(p.dir, nextSegments[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := names(t, p.dir); !slices.Equal(got, nextSegments[:]) {
		t.Errorf("the folder holds %v, want %v", got, nextSegments)
	}
}

func openOwn(t *testing.T, dir string) *Embedded {
	t.Helper()
	e, err := Open(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func segments(t *testing.T, dir string, names ...string) (out []os.FileInfo) {
	t.Helper()
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err == nil {
			out = append(out, info)
		} else if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return out
}

// BenchmarkSync appends records of 4.5 KB to a segment and syncs each, as etcd does for single writes: where the segment was only allocated, as
// by etcd, and where it was filled. To make segments is not counted.
func BenchmarkSync(b *testing.B) {
	record := bytes.Repeat([]byte("x"), 4500)
	for name, prepare := range map[string]func(f *os.File) error{
		"allocated": func(f *os.File) error { return errors.Join(fileutil.Preallocate(f, segmentBytes, true), f.Sync()) },
		"filled":    func(f *os.File) error { return fillFile(f.Name(), segmentBytes) },
	} {
		b.Run(name, func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "segment"))
			if err != nil {
				b.Fatal(err)
			}
			records := segmentBytes / len(record)
			for n := 0; b.Loop(); n++ {
				if n%records == 0 {
					b.StopTimer()
					if err := errors.Join(f.Truncate(0), prepare(f)); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				if _, err := f.WriteAt(record, int64(n%records*len(record))); err != nil {
					b.Fatal(err)
				}
				if err := fileutil.Fdatasync(f); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
