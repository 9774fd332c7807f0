// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kogge.dev/kogge/store"
)

// What was written does not stay in memory once etcd has been trimmed, and stays in the store.
func TestTrimFreesMemory(t *testing.T) {
	e, err := Open(t.Context(), Config{DataDir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	const n, size = 60, 200 << 10
	begun := heapInUse()
	for i := range n {
		value := make([]byte, size)
		_, _ = rand.Read(value) // never fails
		if _, err := e.Create(t.Context(), fmt.Sprintf("/registry/things/%d", i), value, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.List(t.Context(), store.ListOptions{Prefix: "/registry/things/"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Create(t.Context(), "/registry/thing", nil, store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.trim.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := heapInUse() - begun
	for range 30 { // etcd lets go of it behind the answer
		if left < n*size/4 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		left = heapInUse() - begun
	}
	if left >= n*size/4 {
		t.Errorf("trim left %d bytes of %d that were written, want a quarter of them at most", left, n*size)
	}
	if r, _, err := e.Get(t.Context(), "/registry/things/7"); err != nil || len(r.Value) != size {
		t.Errorf("Get = %d bytes, %v, want %d", len(r.Value), err, size)
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The log is trimmed a minute after much was written, once; little is left alone, and nothing happens after the end.
func TestTrimWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var entries atomic.Int64
		trim := newTrimmer(func(context.Context) error { entries.Add(1); return nil }, func() {})
		want := func(n int64, when string) {
			t.Helper()
			if got := entries.Load(); got != n {
				t.Errorf("%d entries %s, want %d", got, when, n)
			}
		}
		trim.wrote(trimLeast - 1)
		time.Sleep(time.Hour)
		want(0, "after little was written")
		trim.wrote(1)
		trim.wrote(trimLeast)
		time.Sleep(trimAfter - time.Second)
		want(0, "before their time")
		time.Sleep(2 * time.Second)
		want(trimEntries+trimAgain, "a minute after much was written")
		time.Sleep(time.Hour)
		want(trimEntries+trimAgain, "when nothing was written since")
		trim.wrote(trimLeast)
		trim.stop()
		trim.wrote(trimLeast)
		time.Sleep(time.Hour)
		want(trimEntries+trimAgain, "after the end")
	})
}
