// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// expectationTimeout is after how long a wish that was never seen is given up, as upstream does.
const expectationTimeout = 5 * time.Minute

// Expectations keep a loop from acting twice because its view lags behind its own writes: after creating three pods it
// does nothing for that key until its informer has shown three additions. The zero value is ready.
type Expectations struct {
	mu   sync.Mutex
	keys map[Key]*expectation
}

// expectation of one key. It is fulfilled when creates is 0 and deletes is empty.
type expectation struct {
	creates int
	deletes map[types.UID]struct{}
	since   time.Time
}

// ExpectCreates notes that n objects are about to be created for key. Call it before the writes.
func (e *Expectations) ExpectCreates(key Key, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.getLocked(key)
	x.creates += n
}

// ExpectDeletes notes that the objects are about to be deleted for key.
func (e *Expectations) ExpectDeletes(key Key, uids ...types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.getLocked(key)
	for _, uid := range uids {
		x.deletes[uid] = struct{}{}
	}
}

func (e *Expectations) getLocked(key Key) *expectation {
	if e.keys == nil {
		e.keys = map[Key]*expectation{}
	}
	x := e.keys[key]
	if x == nil {
		x = &expectation{deletes: map[types.UID]struct{}{}}
		e.keys[key] = x
	}
	x.since = time.Now()
	return x
}

// Created lowers the count: an addition was seen, or a create failed.
func (e *Expectations) Created(key Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.keys[key]; x != nil && x.creates > 0 {
		x.creates--
	}
}

// Deleted strikes one object off: its deletion was seen (deletionTimestamp or gone), or the delete failed.
func (e *Expectations) Deleted(key Key, uid types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.keys[key]; x != nil {
		delete(x.deletes, uid)
	}
}

// Gone strikes an object off whose view missed whose it became last, and returns the keys that waited for its deletion.
func (e *Expectations) Gone(uid types.UID) []Key {
	e.mu.Lock()
	defer e.mu.Unlock()
	var keys []Key
	for key, x := range e.keys {
		if _, ok := x.deletes[uid]; ok {
			delete(x.deletes, uid)
			keys = append(keys, key)
		}
	}
	return keys
}

// Fulfilled reports whether the loop may act on key: all wishes were seen, or are too old to wait for.
func (e *Expectations) Fulfilled(key Key) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.keys[key]
	if x == nil {
		return true
	}
	if (x.creates == 0 && len(x.deletes) == 0) || time.Since(x.since) > expectationTimeout {
		delete(e.keys, key)
		return true
	}
	return false
}

// Forget drops what is expected of a key whose object is gone.
func (e *Expectations) Forget(key Key) {
	e.mu.Lock()
	delete(e.keys, key)
	e.mu.Unlock()
}
