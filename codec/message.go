// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"unsafe"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Tags of protobuf fields that have a length: the number of the field, and 2.
const (
	tagMeta            = 1<<3 | 2 // of an object or a list: its metadata; of the envelope: its type
	tagRaw             = 2<<3 | 2 // of the envelope: the object; of a list: an item
	tagResourceVersion = 6<<3 | 2 // of an object's metadata
	tagLabel           = 11<<3 | 2
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
	_, end, ok := fieldAt(value, len(magic), tagMeta)
	if !ok || !IsProtobuf(value) {
		return Message{}, false
	}
	from, end, ok := fieldAt(value, end, tagRaw)
	if !ok {
		return Message{}, false
	}
	raw := value[from:end]
	from, end, ok = fieldAt(raw, 0, tagMeta)
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

// StoredText reads a text of the object in a stored value, without decoding it: path has the numbers of the fields that lead there, each below 16. A
// field that is not there is empty. It returns false for a value that is not protobuf as we store it. The text shares the value's bytes.
func StoredText(value []byte, path ...int) (string, bool) {
	_, end, ok := fieldAt(value, len(magic), tagMeta)
	if !ok || !IsProtobuf(value) {
		return "", false
	}
	from, end, ok := fieldAt(value, end, tagRaw)
	if !ok {
		return "", false
	}
	data := value[from:end]
	for _, field := range path {
		if data, ok = find(data, byte(field<<3|2)); !ok {
			return "", false
		}
	}
	if len(data) == 0 {
		return "", true
	}
	return unsafe.String(&data[0], len(data)), true
}

// find returns the content of the first field with a tag in a message, nil if there is none. It returns false for what is no message.
func find(data []byte, tag byte) ([]byte, bool) {
	for at := 0; at < len(data); {
		if data[at] == tag {
			from, end, ok := fieldAt(data, at, tag)
			return data[from:end], ok
		}
		key, n := binary.Uvarint(data[at:])
		if n <= 0 {
			return nil, false
		}
		at += n
		length, n := binary.Uvarint(data[at:])
		switch {
		case key&7 == 0 && n > 0:
			at += n
		case key&7 == 2 && n > 0 && length <= uint64(len(data)-at-n):
			at += n + int(length)
		default: // The API's types have no others.
			return nil, false
		}
	}
	return nil, true
}

// fieldAt returns where the content of the field at a place in data begins and ends; false if another field is there.
func fieldAt(data []byte, at int, tag byte) (from, end int, ok bool) {
	if at >= len(data) || data[at] != tag {
		return 0, 0, false
	}
	length, n := binary.Uvarint(data[at+1:])
	from = at + 1 + n
	if n <= 0 || length > uint64(len(data)-from) {
		return 0, 0, false
	}
	return from, from + int(length), true
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

// Labels are the labels of a stored message.
func (m Message) Labels() StoredLabels {
	if m.meta == 0 {
		return nil
	}
	end := m.meta - digitsOf(m.revision) - len(m.before) - 2
	for at := 0; at < end; {
		tag := m.after[at]
		if tag == tagLabel {
			return StoredLabels(m.after[at:end])
		}
		if tag&7 != 2 { // A number or a truth value. Others are not in metadata.
			_, n := binary.Uvarint(m.after[at+1 : end])
			at += 1 + max(n, 1)
			continue
		}
		_, next, ok := fieldAt(m.after[:end], at, tag)
		if !ok || tag > tagLabel {
			break
		}
		at = next
	}
	return nil
}

// StoredLabels are labels as metadata has them in protobuf, one field for each at the beginning.
type StoredLabels []byte

var _ labels.Labels = StoredLabels{}

// Lookup implements labels.Labels. The value shares the bytes of what is stored.
func (l StoredLabels) Lookup(label string) (string, bool) {
	for at := 0; ; {
		from, end, ok := fieldAt(l, at, tagLabel)
		if !ok {
			return "", false
		}
		at = end
		first, next, ok := fieldAt(l[:end], from, 1<<3|2)
		if !ok || string(l[first:next]) != label {
			continue
		}
		if first, next, ok = fieldAt(l[:end], next, 2<<3|2); !ok || first == next {
			return "", true
		}
		return unsafe.String(&l[first], next-first), true
	}
}

// Has implements labels.Labels.
func (l StoredLabels) Has(label string) bool {
	_, ok := l.Lookup(label)
	return ok
}

// Get implements labels.Labels.
func (l StoredLabels) Get(label string) string {
	value, _ := l.Lookup(label)
	return value
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
	scratch.data = slices.Grow(scratch.data, 2*size)
	written := scratch.data[:size]
	n, err := own.MarshalTo(written)
	return err == nil && bytes.Equal(written[:n], m.AppendTo(scratch.data[size:size]))
}

// AppendEnvelope appends what comes before an object, or a list, of that size in the envelope. EnvelopeEnd comes after it.
func AppendEnvelope(to []byte, gvk schema.GroupVersionKind, size int) []byte {
	meta := AppendBytes(AppendBytes(nil, 1, []byte(gvk.GroupVersion().String())), 2, []byte(gvk.Kind))
	return AppendLength(AppendBytes(append(to, magic...), 1, meta), 2, size)
}

// EnvelopeEnd ends the envelope: content encoding and content type, both empty.
var EnvelopeEnd = []byte{3<<3 | 2, 0, 4<<3 | 2, 0}

// Wrap puts a message into the envelope.
func Wrap(gvk schema.GroupVersionKind, m Message) []byte {
	size := m.Size()
	out := make([]byte, 0, 128+size)
	return append(m.AppendTo(AppendEnvelope(out, gvk, size)), EnvelopeEnd...)
}

// AppendBytes appends a length-delimited protobuf field.
func AppendBytes(to []byte, field int, data []byte) []byte {
	return append(AppendLength(to, field, len(data)), data...)
}

// AppendLength appends what comes before the data of a length-delimited protobuf field.
func AppendLength(to []byte, field, length int) []byte {
	to = binary.AppendUvarint(to, uint64(field)<<3|2)
	return binary.AppendUvarint(to, uint64(length))
}
