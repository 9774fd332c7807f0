// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"kogge.dev/kogge/internal/invariant"
)

const (
	// packAfter is how long values stay as they came: those who want to know of a change have read it then. What many changes in a row
	// leave meanwhile is garbage later, and what lives long comes to lie between it.
	packAfter = 250 * time.Millisecond
	// settleAfter is how long after values were packed those that stayed are put together: by then most of what they came to lie between has gone.
	settleAfter = 30 * time.Second
	// shelfLen is how many bytes of packed values lie in one array, which stays for as long as any of them.
	shelfLen = 256 << 10
	// packLeast is the length from which a value is worth packing.
	packLeast = 1 << 10
	// packLevel takes 4 % less off a definition of 80 kB than the next level, whose tables are four times as large.
	packLevel = zstd.SpeedDefault
	// packWindow is how far back repetitions are looked for: as far as in nearly all values, in whole.
	packWindow = 512 << 10
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
func (s *stored) open(by *packer) []byte {
	if s.size == 0 {
		return s.bytes
	}
	value, err := by.unpack(s.bytes, s.size)
	invariant.Check(err == nil && len(value) == s.size, "a packed value of %d bytes can't be opened: %d bytes, %v", s.size, len(value), err)
	return value
}

// pack returns the value packed, or s where that is not worth it.
func (s *stored) pack(by *packer) *stored {
	if s.size > 0 || len(s.bytes) < packLeast {
		return s
	}
	data := by.pack(s.bytes)
	if len(data) >= len(s.bytes) {
		return s
	}
	return &stored{bytes: data, size: len(s.bytes)}
}

// pack packs the values of all that can be found, history too.
func (c *Cache) pack() {
	c.packing.Lock()
	defer c.packing.Unlock()
	c.mu.Lock()
	c.arrived = nil
	c.laterLocked(&c.packed, settleAfter, c.settle)
	c.mu.Unlock()
	c.replaceValues(func(plain *stored) *stored { return plain.pack(c.codec.packer) })
}

// settle puts packed values one behind the other. Each by itself leaves holes where it was: few values of many sizes share what the runtime divides into parts of one size.
func (c *Cache) settle() {
	c.packing.Lock()
	defer c.packing.Unlock()
	c.mu.Lock()
	c.packed = nil
	c.mu.Unlock()
	var on shelf
	c.replaceValues(on.put)
}

// shelf is an array with room for packed values, one behind the other.
type shelf struct{ room []byte }

// put returns a value of which the bytes lie behind those of the one before, or in a new array, unless it is not packed or large.
func (s *shelf) put(alone *stored) *stored {
	n := len(alone.bytes)
	if alone.size == 0 || n > shelfLen/2 {
		return alone
	}
	if cap(s.room)-len(s.room) < n {
		s.room = make([]byte, 0, shelfLen)
	}
	begun := len(s.room)
	s.room = append(s.room, alone.bytes...)
	return &stored{bytes: s.room[begun:len(s.room):len(s.room)], size: alone.size}
}

// replaceValues puts in place of the value of each entry that can be found, in the order of their keys, history last, what replace makes of it. packing is held.
func (c *Cache) replaceValues(replace func(*stored) *stored) {
	c.mu.Lock()
	var entries []*Entry
	if !c.ended {
		entries = c.core.entries()
	}
	c.mu.Unlock()
	// An entry of a deletion shares the value of the one before it, and goes on to.
	done := map[*stored]*stored{}
	for _, e := range entries {
		before := e.stored.Load()
		after := done[before]
		if after == nil {
			after = replace(before)
			done[before] = after
		}
		if after != before && e.stored.CompareAndSwap(before, after) {
			e.forget()
		}
	}
}

// arrivedLocked says that there are values which nobody has packed.
func (c *Cache) arrivedLocked() {
	if c.codec.packer != nil {
		c.laterLocked(&c.arrived, packAfter, c.pack)
	}
}

// packer packs and opens the values of a cache.
type packer struct {
	// encoders and decoders are reused: each has tables of a megabyte or so. They have channels inside, so that tests with time of their own must not share them.
	encoders, decoders sync.Pool
}

func newPacker() *packer {
	p := &packer{}
	p.encoders.New = func() any {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(packLevel), zstd.WithWindowSize(packWindow),
			zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the settings are constants
		}
		return &encoder{Encoder: w}
	}
	p.decoders.New = func() any {
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			panic(err) // the settings are constants
		}
		return r
	}
	return p
}

// encoder packs one value after the other. It keeps the room that they were packed in: as garbage that would lie between those that stay, and be as large.
type encoder struct {
	*zstd.Encoder

	room []byte
}

// pack returns raw compressed, with no room to spare.
func (p *packer) pack(raw []byte) []byte {
	w, _ := p.encoders.Get().(*encoder)
	defer p.encoders.Put(w)
	w.room = w.EncodeAll(raw, w.room[:0])
	return bytes.Clone(w.room)
}

// unpack returns what pack was given, of that size.
func (p *packer) unpack(packed []byte, size int) ([]byte, error) {
	r, _ := p.decoders.Get().(*zstd.Decoder)
	defer p.decoders.Put(r)
	out, err := r.DecodeAll(packed, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return out, nil
}
