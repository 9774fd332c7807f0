// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime"
)

// Message is an object in protobuf without the envelope. It may be in two pieces of what is stored, which lacks the
// resourceVersion in between:
//
//	stored   tagMeta, length │ uid and the like │ tagResourceVersion, 0       │ the rest
//	Message  tagMeta, length │ before           │ tagResourceVersion, version │ after
type Message struct {
	// before and after are shared: they must not be changed. before is the whole message where meta is 0.
	before, after []byte
	// meta is the length of the metadata, with the version.
	meta     int
	revision int64
}

// NewMessage makes a Message of bytes that are one.
func NewMessage(raw []byte) Message { return Message{before: raw} }

// StoredMessage finds the object in a stored value, with its resourceVersion. It returns false for a value that is not protobuf as we store it.
func StoredMessage(value []byte, revision int64) (Message, bool) {
	raw, ok := storedObject(value)
	if !ok {
		return Message{}, false
	}
	from, end, ok := fieldAt(raw, 0, tagMeta)
	if !ok {
		return Message{}, false
	}
	at := from
	for tag := byte(tagMeta); tag < tagResourceVersion; tag += 1 << 3 {
		if _, at, ok = fieldAt(raw[:end], at, tag); !ok {
			return Message{}, false
		}
	}
	empty, after, ok := fieldAt(raw[:end], at, tagResourceVersion)
	if !ok || after != empty {
		return Message{}, false
	}
	return Message{before: raw[from:at], after: raw[after:], meta: end - from + digitsOf(revision), revision: revision}, true
}

func digitsOf(n int64) (digits int) {
	for ; n > 0; n /= 10 {
		digits++
	}
	return max(digits, 1)
}

// Size is the length of the message.
func (m Message) Size() int {
	if m.meta == 0 {
		return len(m.before)
	}
	return 1 + uvarintSize(m.meta) + len(m.before) + 2 + digitsOf(m.revision) + len(m.after)
}

func uvarintSize(n int) (size int) {
	for size = 1; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// AppendTo appends the message.
func (m Message) AppendTo(to []byte) []byte {
	if m.meta == 0 {
		return append(to, m.before...)
	}
	to = append(AppendLength(to, 1, m.meta), m.before...)
	to = AppendLength(to, 6, digitsOf(m.revision))
	to = strconv.AppendInt(to, m.revision, 10)
	return append(to, m.after...)
}

// Is reports whether the message is how obj is written.
func (m Message) Is(obj runtime.Object) bool {
	own, ok := obj.(message)
	if !ok {
		return false
	}
	size := own.Size()
	if size != m.Size() {
		return false
	}
	scratch := takeScratch()
	defer scratch.giveBack()
	scratch.data = slices.Grow(scratch.data, size)
	written := scratch.data[:size]
	n, err := own.MarshalToSizedBuffer(written)
	return err == nil && m.equals(written[:n])
}

// equals reports whether data is what AppendTo appends.
func (m Message) equals(data []byte) bool {
	if m.meta == 0 {
		return bytes.Equal(data, m.before)
	}
	var rooms [2][32]byte
	head := AppendLength(rooms[0][:0], 1, m.meta)
	version := strconv.AppendInt(AppendLength(rooms[1][:0], 6, digitsOf(m.revision)), m.revision, 10)
	for _, part := range [...][]byte{head, m.before, version, m.after} {
		rest, ok := bytes.CutPrefix(data, part)
		if !ok {
			return false
		}
		data = rest
	}
	return len(data) == 0
}
