// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"testing"
	"unsafe"
)

// Packed values lie one behind the other, without room for what is appended to one; what is not packed, or large, stays where it is.
func TestShelf(t *testing.T) {
	packed := func(n int, of byte) *stored { return &stored{bytes: bytes.Repeat([]byte{of}, n), size: 2 * n} }
	var on shelf
	var before *stored
	for i, n := range []int{9000, 1, shelfLen / 2, shelfLen - 9001 - shelfLen/2} {
		alone := packed(n, byte('a'+i))
		got := on.put(alone)
		if got == alone || got.size != alone.size || !bytes.Equal(got.bytes, alone.bytes) || cap(got.bytes) != n {
			t.Fatalf("value %d of %d bytes is put as %d bytes, room for %d", i, n, len(got.bytes), cap(got.bytes))
		}
		if before != nil && unsafe.SliceData(got.bytes) != (*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(before.bytes)), len(before.bytes))) {
			t.Errorf("value %d does not lie behind the one before", i)
		}
		before = got
	}
	if full := on.put(packed(1, 'x')); cap(on.room) != shelfLen || len(on.room) != 1 || full.bytes[0] != 'x' {
		t.Errorf("a value is put where there is no room: %d bytes of %d", len(on.room), cap(on.room))
	}
	for _, stays := range []*stored{packed(shelfLen/2+1, 'l'), {bytes: []byte("plain")}} {
		if on.put(stays) != stays {
			t.Errorf("a value of %d bytes, unpacked %d, is moved", len(stays.bytes), stays.size)
		}
	}
}
