// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"

	"kogge.dev/kogge/store"
)

// crashed is a data folder as a crash left it: the database as it was when etcd had started, and the whole WAL, which the
// test cuts. Any prefix of the WAL from the last acknowledged write on may be what a crash leaves.
type crashed struct {
	dir string
	wal []byte
	// acked is the length of the WAL when the write of that number had been acknowledged.
	acked []int
}

// crash lets an etcd make writes of these sizes and takes a copy of its folder while it runs.
func crash(t *testing.T, sizes []int) crashed {
	t.Helper()
	dir, copied := t.TempDir(), t.TempDir()
	s, err := Open(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	c := crashed{dir: copied}
	for i, size := range sizes {
		value := bytes.Repeat([]byte{byte('a' + i)}, size)
		if _, err := s.Create(t.Context(), crashKey(i), value, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if c.wal, err = os.ReadFile(filepath.Join(walDir(dir), firstSegment)); err != nil {
			t.Fatal(err)
		}
		// Records are padded to eight bytes, with zeros that are part of them.
		c.acked = append(c.acked, (len(bytes.TrimRight(c.wal, "\x00"))+7)&^7)
	}
	return c
}

func crashKey(i int) string { return fmt.Sprintf("/registry/pods/%d", i) }

// cut leaves the first n bytes of the WAL: the file ends there, or goes on with zeros.
func (c *crashed) cut(t *testing.T, n int, zeros bool) {
	t.Helper()
	data := c.wal[:n]
	if zeros {
		data = append(bytes.Clone(data), make([]byte, 16<<10)...)
	}
	if err := os.WriteFile(filepath.Join(walDir(c.dir), firstSegment), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// survivors counts the writes that must have survived a cut.
func (c *crashed) survivors(n int) int {
	count := 0
	for count < len(c.acked) && c.acked[count] <= n {
		count++
	}
	return count
}

func TestTornTailAtEveryByte(t *testing.T) {
	t.Parallel()
	c := crash(t, []int{10, 100, 10, 600, 1})
	for n := c.acked[1]; n <= c.acked[len(c.acked)-1]; n++ {
		for _, zeros := range []bool{false, true} {
			c.cut(t, n, zeros)
			if err := repairWAL(walDir(c.dir)); err != nil {
				t.Fatalf("repairWAL(cut at %d, zeros %t): %v", n, zeros, err)
			}
			log := readWAL(t, walDir(c.dir))
			for i := range c.survivors(n) {
				if !bytes.Contains(log, []byte(crashKey(i))) {
					t.Fatalf("cut at %d, zeros %t: write %d is lost", n, zeros, i)
				}
			}
		}
	}
}

// readWAL returns the data of all entries.
func readWAL(t *testing.T, dir string) []byte {
	t.Helper()
	w, err := wal.OpenForRead(zapLogger(slog.New(slog.DiscardHandler)), dir, &walpb.Snapshot{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	_, _, entries, err := w.ReadAll()
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("read WAL: %v", err)
	}
	var out []byte
	for _, e := range entries {
		out = append(out, e.GetData()...)
	}
	return out
}

func TestOpenAfterTornTail(t *testing.T) {
	t.Parallel()
	c := crash(t, []int{10, 100, 10, 600, 1})
	const step = 61 // Of no common divisor with the padding: all positions in a record come up.
	for n := c.acked[1]; n <= c.acked[len(c.acked)-1]; n += step {
		for _, zeros := range []bool{false, true} {
			c.cut(t, n, zeros)
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(c.dir)); err != nil {
				t.Fatal(err)
			}
			// Twice: what is written over the torn tail must be readable, too.
			for round := range 2 {
				checkSurvivors(t, dir, c.survivors(n), round, fmt.Sprintf("cut at %d, zeros %t", n, zeros))
			}
			_ = os.RemoveAll(dir)
		}
	}
}

func checkSurvivors(t *testing.T, dir string, want, round int, what string) {
	t.Helper()
	s, err := Open(t.Context(), Config{DataDir: dir, UnsafeNoFsync: true})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() { _ = s.Close() }()
	for i := range want {
		if _, _, err := s.Get(t.Context(), crashKey(i)); err != nil {
			t.Errorf("%s: write %d: %v", what, i, err)
		}
	}
	for i := range round {
		if _, _, err := s.Get(t.Context(), fmt.Sprintf("/registry/later/%d", i)); err != nil {
			t.Errorf("%s: the write of round %d: %v", what, i, err)
		}
	}
	if _, err := s.Create(t.Context(), fmt.Sprintf("/registry/later/%d", round), make([]byte, 300), store.WriteOptions{}); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestDamageIsRefused(t *testing.T) {
	c := crash(t, []int{10, 700, 10})
	c.wal[c.acked[0]+100] ^= 0x40
	c.cut(t, c.acked[2], true)
	s, err := Open(t.Context(), Config{DataDir: c.dir})
	if err == nil {
		_ = s.Close()
		t.Fatal("Open succeeded on a WAL with a wrong byte in its middle")
	}
	if !strings.Contains(err.Error(), "crc mismatch") {
		t.Errorf("Open = %v, want it to name the wrong checksum", err)
	}
}

func TestHalfMadeSegmentIsNotReused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(walDir(dir), "0.tmp")
	if err := os.WriteFile(half, bytes.Repeat([]byte("x"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := repairWAL(walDir(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half-made segment: %v, want it gone", err)
	}
}

// writerEnv names the folder that the test binary, run as a child, writes to until it is killed.
const writerEnv = "KOGGE_ETCD_CRASH_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		fmt.Fprintln(os.Stderr, writeForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForever creates keys and says which have been acknowledged.
func writeForever(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{DataDir: dir})
	if err != nil {
		return err
	}
	page, err := s.List(ctx, store.ListOptions{Prefix: "/registry/pods/"})
	if err != nil {
		return err
	}
	for i := len(page.Records); ; i++ {
		if _, err := s.Create(ctx, crashKey(i), make([]byte, 100+i%5000), store.WriteOptions{}); err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, i)
	}
}

// killed runs the writer on a folder and kills it a while after so many writes have been acknowledged, none for a while after its start. It
// returns the number of the last acknowledged write, or last when there was none.
func killed(t *testing.T, dir string, writes int, after time.Duration, last int) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) } // it may have ended by itself
	if writes == 0 {
		kill()
	}
	lines := bufio.NewScanner(out)
	for seen := 1; lines.Scan(); seen++ {
		if seen == writes {
			kill()
		}
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Errorf("the writer says %q: %v", lines.Text(), err)
		}
	}
	_ = cmd.Wait()
	return last
}

// checkAcknowledged opens a folder and checks that the writes up to last are there.
func checkAcknowledged(t *testing.T, dir string, last int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := Open(ctx, Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range last + 1 {
		if _, _, err := s.Get(ctx, crashKey(i)); err != nil {
			t.Errorf("write %d of %d: %v", i, last, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestKilledAtBirth(t *testing.T) {
	for i := range 15 {
		dir := t.TempDir()
		checkAcknowledged(t, dir, killed(t, dir, 0, time.Duration(10+2*i)*time.Millisecond, -1))
	}
}

func TestUnbornMember(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Dir(walDir(dir)), 0o700); err != nil {
		t.Fatal(err)
	}
	// As etcd makes it: nothing but what the log is of.
	w, err := wal.Create(zapLogger(slog.New(slog.DiscardHandler)), walDir(dir), []byte{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	checkAcknowledged(t, dir, -1)
	checkAcknowledged(t, dir, -1)
}

func TestKilledWriterLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := -1
	for round := range 5 {
		acked = killed(t, dir, 3, time.Duration(10+37*round)*time.Millisecond, acked)
		checkAcknowledged(t, dir, acked)
	}
	if acked < 10 {
		t.Errorf("only %d writes in all: the test shows nothing", acked+1)
	}
}
