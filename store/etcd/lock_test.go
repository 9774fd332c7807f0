// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"kogge.dev/kogge/store"
)

// TestOpenWaitsForLocksThatGo has the first of two segments look locked for a moment, as by a child that is just being started.
func TestOpenWaitsForLocksThatGo(t *testing.T) {
	t.Parallel()
	cfg := Config{DataDir: t.TempDir(), UnsafeNoFsync: true}
	first, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	const large = 1 << 20
	for i := range 6 { // A segment has 4 MB.
		if _, err := first.Create(t.Context(), fmt.Sprintf("/registry/large-%d", i), make([]byte, large), store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(walDir(cfg.DataDir), "*.wal"))
	if err != nil || len(segments) < 2 {
		t.Fatalf("segments %v, %v; want two", segments, err)
	}
	held, err := lockFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(3*lockRetry, func() { _ = unlockFile(held) })
	again, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open while a lock is about to go: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
