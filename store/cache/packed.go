// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"time"

	"kogge.dev/kogge/internal/invariant"
	"kogge.dev/kogge/internal/packed"
)

const (
	// packAfter is how long values stay as they came: those who want to know of a change have read it then.
	packAfter = time.Minute
	// packLeast is the length from which a value is worth packing.
	packLeast = 1 << 10
)

// stored is the value of an entry, as it came or packed. It is immutable.
type stored struct {
	bytes []byte
	// size is the length of the value where bytes are packed, else zero.
	size int
}

// len is the length of the value.
func (s *stored) len() int {
	if s.size > 0 {
		return s.size
	}
	return len(s.bytes)
}

// open returns the value; of a packed one a copy that is the caller's.
func (s *stored) open() []byte {
	if s.size == 0 {
		return s.bytes
	}
	value, err := packed.Open(s.bytes, s.size)
	invariant.Check(err == nil && len(value) == s.size, "a packed value of %d bytes can't be opened: %d bytes, %v", s.size, len(value), err)
	return value
}

// pack returns the value packed, or s where that is not worth it.
func (s *stored) pack() *stored {
	if s.size > 0 || len(s.bytes) < packLeast {
		return s
	}
	data, err := packed.Bytes(s.bytes)
	if err != nil || len(data) >= len(s.bytes) {
		return s
	}
	return &stored{bytes: data, size: len(s.bytes)}
}

// pack packs the values of all that can be found, history too.
func (c *Cache) pack() {
	c.mu.RLock()
	entries := c.core.entries()
	c.mu.RUnlock()
	// An entry of a deletion shares the value of the one before it, and goes on to.
	done := map[*stored]*stored{}
	for _, e := range entries {
		plain := e.stored.Load()
		small := done[plain]
		if small == nil {
			small = plain.pack()
			done[plain] = small
		}
		e.stored.CompareAndSwap(plain, small)
	}
}

// arrivedLocked says that there are values which nobody has packed.
func (c *Cache) arrivedLocked() {
	select {
	case c.arrived <- struct{}{}:
	default: // It is known, or nothing is packed here: then the channel is nil.
	}
}
