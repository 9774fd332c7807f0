// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"testing"
	"testing/synctest"

	"kogge.dev/kogge/store"
)

// What was written is committed once it is much, one commit at a time.
func TestMuchIsCommittedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, end := 0, make(chan struct{})
		c := &committer{commit: func() { begun++; <-end }}
		expect := func(want int, after string) {
			t.Helper()
			if synctest.Wait(); begun != want {
				t.Errorf("%d commits %s, want %d", begun, after, want)
			}
		}
		c.wrote(commitLeast - 1)
		expect(0, "after less than is worth one")
		c.wrote(1)
		expect(1, "after as much")
		c.wrote(commitLeast)
		expect(1, "while the first is on its way")
		end <- struct{}{}
		synctest.Wait()
		c.wrote(1)
		expect(2, "with the write after it")
		end <- struct{}{}
		synctest.Wait()
		c.wrote(commitLeast - 1)
		expect(2, "after less than is worth a third")
	})
}

// An open etcd counts what is written, and its commit brings that into the database.
func TestWritesCountTowardsACommit(t *testing.T) {
	e, err := Open(t.Context(), Config{DataDir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	const size = commitLeast / 2
	used := e.etcd.Server.Backend().SizeInUse()
	if _, err := e.Create(t.Context(), "/registry/things/1", make([]byte, size), store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if written := e.commits.written.Load(); written < size {
		t.Errorf("%d bytes count towards a commit after %d were written", written, size)
	}
	e.commits.commit()
	if more := e.etcd.Server.Backend().SizeInUse() - used; more < size/2 { // Some of it may be where something was before.
		t.Errorf("the database uses %d bytes more after a commit of %d", more, size)
	}
}
