// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"k8s.io/apimachinery/pkg/labels"
)

// Stored values are read here as they lie, field by field, without decoding the object.

// Tags of protobuf fields that have a length: the number of the field, and 2.
const (
	tagMeta            = 1<<3 | 2 // of an object or a list: its metadata; of the envelope: its type
	tagRaw             = 2<<3 | 2 // of the envelope: the object; of a list: an item
	tagResourceVersion = 6<<3 | 2 // of an object's metadata
	tagLabel           = 11<<3 | 2
)

// storedObject takes a stored value out of its envelope; false if it is not protobuf as we store it.
func storedObject(value []byte) ([]byte, bool) {
	_, end, ok := fieldAt(value, len(magic), tagMeta)
	if !ok || !IsProtobuf(value) {
		return nil, false
	}
	from, end, ok := fieldAt(value, end, tagRaw)
	if !ok {
		return nil, false
	}
	return value[from:end], true
}

// StoredText reads a text of the object in a stored value, without decoding it: path has the numbers of the fields that lead there, each below 16. A
// field that is not there is empty. It returns false for a value that is not protobuf as we store it. The text shares the value's bytes.
func StoredText(value []byte, path ...int) (string, bool) {
	data, ok := storedObject(value)
	if !ok {
		return "", false
	}
	for _, field := range path {
		if data, ok = find(data, byte(field<<3|2)); !ok {
			return "", false
		}
	}
	return text(data), true
}

// StoredWithout returns a stored value whose object is without a field: path has the numbers of the fields that lead there, each below 16; what is in lists on
// the way is without it in each of their items. It returns false for a value that is not protobuf as we store it.
func StoredWithout(value []byte, path ...int) ([]byte, bool) {
	if _, ok := storedObject(value); !ok {
		return nil, false
	}
	const object = tagRaw >> 3
	return appendWithout(bytes.Clone(magic), value[len(magic):], append([]int{object}, path...))
}

// appendWithout appends a message without the field that path leads to.
func appendWithout(to, data []byte, path []int) ([]byte, bool) {
	tag := byte(path[0]<<3 | 2)
	for at := 0; at < len(data); {
		next, ok := skip(data, at)
		if !ok {
			return nil, false
		}
		switch {
		case data[at] != tag:
			to = append(to, data[at:next]...)
		case len(path) > 1:
			from, end, _ := fieldAt(data, at, tag)
			part, ok := appendWithout(nil, data[from:end], path[1:])
			if !ok {
				return nil, false
			}
			to = AppendBytes(to, path[0], part)
		}
		at = next
	}
	return to, true
}

// find returns the content of the first field with a tag in a message, nil if there is none. It returns false for what is no message.
func find(data []byte, tag byte) ([]byte, bool) {
	for at := 0; at < len(data); {
		if data[at] == tag {
			from, end, ok := fieldAt(data, at, tag)
			return data[from:end], ok
		}
		next, ok := skip(data, at)
		if !ok {
			return nil, false
		}
		at = next
	}
	return nil, true
}

// skip returns where the field at a place in a message ends; false where none is.
func skip(data []byte, at int) (next int, ok bool) {
	key, n := binary.Uvarint(data[at:])
	if n <= 0 {
		return 0, false
	}
	at += n
	length, n := binary.Uvarint(data[at:])
	switch {
	case key&7 == 0 && n > 0:
		return at + n, true
	case key&7 == 2 && n > 0 && length <= uint64(len(data)-at-n):
		return at + n + int(length), true
	default: // The API's types have no others.
		return 0, false
	}
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
		if key, value, ok := pair(l[from:end]); ok && string(key) == label {
			return text(value), true
		}
	}
}

// pair reads one of the pairs of a map, whose value has a length. It may be missing where it is empty.
func pair(data []byte) (key, value []byte, ok bool) {
	from, end, ok := fieldAt(data, 0, 1<<3|2)
	if !ok || end == len(data) {
		return data[from:end], nil, ok
	}
	key = data[from:end]
	from, end, ok = fieldAt(data, end, 2<<3|2)
	return key, data[from:end], ok && end == len(data)
}

// text is data as a string, for as long as data does not change.
func text(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

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

// Marks are those of all the labels: what has a label has its mark, and most of what has not does not.
func (l StoredLabels) Marks() (marks uint64) {
	for len(l) > 0 {
		from, end, ok := fieldAt(l, 0, tagLabel)
		if !ok {
			break
		}
		if key, value, ok := pair(l[from:end]); ok {
			marks |= LabelMark(text(key), text(value))
		}
		l = l[end:]
	}
	return marks
}

// LabelMark is the mark of a label: a bit other than the lowest two.
func LabelMark(label, value string) uint64 {
	const prime, start = 1099511628211, 14695981039346656037 // FNV-1a
	sum := uint64(start)
	for _, s := range [...]string{label, value} {
		for i := range len(s) {
			sum = (sum ^ uint64(s[i])) * prime
		}
		sum *= prime
	}
	return 4 << (sum >> 32 % 62)
}
