// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import "sync/atomic"

// commitLeast is how many bytes of values are written before they are committed without waiting for more: etcd keeps them in memory until then.
const commitLeast = 2 << 20

// committer has etcd commit what was written once it is much.
type committer struct {
	// commit returns when the database file has what was written before it was called.
	commit func()
	// written is how many bytes were since the last commit began, busy whether one is on its way.
	written atomic.Int64
	busy    atomic.Bool
}

// wrote tells of a write of so many bytes. Nobody waits for the commit.
func (c *committer) wrote(n int) {
	if c.written.Add(int64(n)) < commitLeast || !c.busy.CompareAndSwap(false, true) {
		return
	}
	c.written.Store(0)
	go func() {
		defer c.busy.Store(false)
		c.commit()
	}()
}
