// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"kogge.dev/kogge/store"
)

var linearChecks = []check{
	{name: "concurrent reads and writes are linearizable", run: checkLinearizable},
}

// operation is one call of a concurrent history. Begin and end are taken from one clock, so that an operation whose end is
// less than another's begin really came first.
type operation struct {
	key        string
	begin, end int64
	// revision that the answer gives.
	revision int64
	write    bool
	// value that was written or read; empty for absent.
	value string
}

// checkLinearizable records a history of calls and checks it. Because every answer carries a revision of one global order,
// that is simple: the revisions must fit the real order of the calls, and each read the state at its revision.
func checkLinearizable(t *testing.T, s store.Store) {
	const clients, calls, keys = 6, 60, 3
	var clock atomic.Int64
	histories := make([][]operation, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(c), 1))
			for i := range calls {
				op := operation{key: fmt.Sprintf("/registry/keys/%d", rnd.IntN(keys)), begin: clock.Add(1)}
				err := call(t, s, &op, rnd.IntN(4), fmt.Sprintf("%d-%d", c, i))
				op.end = clock.Add(1)
				if err != nil {
					t.Errorf("%s: %v", op.key, err)
					return
				}
				histories[c] = append(histories[c], op)
			}
		})
	}
	wg.Wait()
	var all []operation
	for _, h := range histories {
		all = append(all, h...)
	}
	checkOrder(t, all)
	checkReads(t, all)
}

// call makes one call. A refused write is a read: it tells the present state, at an unknown revision, so it is read again.
func call(t *testing.T, s store.Store, op *operation, kind int, value string) error {
	current, revision, err := s.Get(t.Context(), op.key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	op.revision, op.value = revision, string(current.Value)
	switch {
	case kind == 0:
		return nil
	case kind == 1 && current.ModRevision != 0:
		revision, err = s.Delete(t.Context(), op.key, current.ModRevision)
		value = ""
	default:
		revision, err = s.Update(t.Context(), op.key, []byte(value), current.ModRevision, store.WriteOptions{})
	}
	if _, conflict := errors.AsType[*store.ConflictError](err); conflict || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	op.revision, op.value, op.write = revision, value, true
	return err
}

// checkOrder checks that what began after something had ended has not an earlier revision, and a write a later one.
func checkOrder(t *testing.T, all []operation) {
	for _, a := range all {
		for _, b := range all {
			if a.end < b.begin && (b.revision < a.revision || (b.write && b.revision == a.revision)) {
				t.Errorf("an operation at revision %d had ended before one at %d began", a.revision, b.revision)
			}
		}
	}
}

// checkReads checks that each read shows the last write of its key up to its revision.
func checkReads(t *testing.T, all []operation) {
	for _, read := range all {
		if read.write {
			continue
		}
		last := operation{}
		for _, w := range all {
			if w.write && w.key == read.key && w.revision <= read.revision && w.revision > last.revision {
				last = w
			}
		}
		if read.value != last.value {
			t.Errorf("a read of %s at revision %d shows %q, want %q of revision %d", read.key, read.revision, read.value, last.value, last.revision)
		}
	}
}
