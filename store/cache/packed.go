// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"sync"
	"time"

	"kogge.dev/kogge/internal/invariant"
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
	value, err := unpack(s.bytes, s.size)
	invariant.Check(err == nil && len(value) == s.size, "a packed value of %d bytes can't be opened: %d bytes, %v", s.size, len(value), err)
	return value
}

// pack returns the value packed, or s where that is not worth it.
func (s *stored) pack() *stored {
	if s.size > 0 || len(s.bytes) < packLeast {
		return s
	}
	data, err := compress(s.bytes)
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

// packLevel takes a fifth off what the fastest level leaves of a definition of 80 kB, for 0.5 ms more. Higher levels take 4 % for the double.
const packLevel = 4

// packers are reused: one takes more memory than what it compresses.
var packers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(io.Discard, packLevel)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// compress returns raw compressed, with no room to spare.
func compress(raw []byte) ([]byte, error) {
	var out bytes.Buffer
	w, _ := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(&out)
	if _, err := w.Write(raw); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return bytes.Clone(out.Bytes()), nil
}

// unpack returns what compress was given, of that size.
func unpack(packed []byte, size int) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // ReadFrom grows a buffer that has less than that left.
	if _, err := out.ReadFrom(flate.NewReader(bytes.NewReader(packed))); err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return out.Bytes(), nil
}
