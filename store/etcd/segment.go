// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"sync"

	"go.etcd.io/etcd/server/v3/storage/wal"
)

// segmentBytes is the size of a WAL segment. etcd allocates two ahead, of 64 MB each, which is most of what a small cluster
// writes to its disk, and reads all that it keeps at every start. Four megabytes hold two of the largest requests, and a new
// segment costs one fsync.
const segmentBytes = 4 << 20

// segmentSize guards the one global of etcd that we set: the size is nowhere in its configuration.
var segmentSize sync.Once

// setSegmentSize is called before any WAL is opened. etcd reads the variable without a lock: so it is set once.
func setSegmentSize() {
	segmentSize.Do(func() { wal.SegmentSizeBytes = segmentBytes })
}
