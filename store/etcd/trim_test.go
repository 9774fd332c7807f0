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

// What was written does not stay in memory once the log has been trimmed, and stays in the store.
func TestTrimFreesTheLog(t *testing.T) {
	e, err := Open(t.Context(), Config{DataDir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	const n, size = 60, 200 << 10
	for i := range n {
		value := make([]byte, size)
		_, _ = rand.Read(value) // never fails
		if _, err := e.Create(t.Context(), fmt.Sprintf("/registry/things/%d", i), value, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * commitEvery) // until the database has what it was given
	before := heapInUse()
	if err := e.trim.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	freed := before - heapInUse()
	for range 50 { // etcd lets go of it behind the answer
		if freed >= n*size/2 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		freed = before - heapInUse()
	}
	if freed < n*size/2 {
		t.Errorf("trim freed %d bytes of %d that were written, want half of them at least", freed, n*size)
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
		trim := newTrimmer(func(context.Context) error { entries.Add(1); return nil })
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
		want(trimEntries, "a minute after much was written")
		time.Sleep(time.Hour)
		want(trimEntries, "when nothing was written since")
		trim.wrote(trimLeast)
		trim.stop()
		trim.wrote(trimLeast)
		time.Sleep(time.Hour)
		want(trimEntries, "after the end")
	})
}
