// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Transcriber writes the JSON of objects of one type from what they are in protobuf, without making them: who lists what nobody holds
// would make every object only to write it. Fields are found where they lie, and written in the order in which the type declares them:
//
//	protobuf   by number      │ 1: metadata … │ 2: spec … │ 3: status … │
//	JSON       as declared    {"kind":…,"apiVersion":…,"metadata":{…},"spec":{…},"status":{…}}
//
// What is not known here how to write, because of its type, is made and written as AppendJSON does. A Transcriber may be shared.
type Transcriber struct {
	message *wireMessage
	// head is what JSON has of the type.
	head string
}

// NewTranscriber returns a Transcriber of objects of obj's type and of that kind, or nil where there can't be one.
func NewTranscriber(obj any, gvk schema.GroupVersionKind) *Transcriber {
	t := reflect.TypeOf(obj)
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil
	}
	m := wireMessageOf(t.Elem())
	head, err := AppendJSON(nil, &metav1.TypeMeta{Kind: gvk.Kind, APIVersion: gvk.GroupVersion().String()})
	if m.made || err != nil {
		return nil
	}
	return &Transcriber{message: m, head: string(head[1 : len(head)-1])}
}

// AppendJSON appends what the function of that name makes of the object that m is of, as long as m is what the object is written as: see
// Message.Is. It returns false, and what is appended is of no use, where that can't be the case, or more is needed to tell.
func (t *Transcriber) AppendJSON(to []byte, m Message) ([]byte, bool) {
	s, ok := transcripts.Get().(*transcript)
	if !ok {
		s = new(transcript)
	}
	s.to, s.head = to, t.head
	s.plain = m.AppendTo(s.plain[:0])
	ok = s.object(t.message, s.plain) && s.head == ""
	to, s.to = s.to, nil
	if s.spans = s.spans[:0]; cap(s.plain) <= scratchMax {
		transcripts.Put(s)
	}
	return to, ok
}

// transcript is one object that is being written.
type transcript struct {
	to []byte
	// head is what is written of the type; empty once it was.
	head string
	// plain is the object, in one piece.
	plain []byte
	// spans is a stack of where the fields are of the messages that are being written, each inside the one before.
	spans []span
}

var transcripts = sync.Pool{New: func() any { return new(transcript) }}

// span is where the content of a field lies in its message; of one that may occur many times all of them, with tags and lengths.
type span struct{ from, end int }

// object writes a message in braces.
func (s *transcript) object(m *wireMessage, data []byte) bool {
	s.to = append(s.to, '{')
	ok := s.members(m, data, len(s.to))
	s.to = append(s.to, '}')
	return ok
}

// members writes the fields of a message into the object whose first member begins at a place in s.to.
func (s *transcript) members(m *wireMessage, data []byte, first int) bool {
	base := len(s.spans)
	s.spans = slices.Grow(s.spans, len(m.fields))[:base+len(m.fields)]
	present, ok := m.locate(data, s.spans[base:])
	for left := present | m.always; ok && left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		f, content := &m.fields[i], []byte(nil)
		found := present&(1<<i) != 0
		if found {
			at := s.spans[base+i]
			content = data[at.from:at.end]
		}
		switch {
		case f.kind == wireType:
			s.to = append(s.to, s.head...)
			s.head = ""
			continue
		case f.kind == wireInline:
			ok = s.members(f.message, content, first)
			continue
		case f.hidden || f.omitted && isZero(f, content):
			continue
		}
		if len(s.to) > first {
			s.to = append(s.to, ',')
		}
		s.to = append(s.to, f.name...)
		switch {
		case !found && f.absent != "":
			s.to = append(s.to, f.absent...)
		case f.many == single:
			ok = s.value(&f.wireValue, content)
		case f.many == listed:
			ok = s.list(f, content)
		default:
			ok = s.pairs(f, content)
		}
	}
	s.spans = s.spans[:base]
	return ok
}

// isZero tells that what there is of a field is empty, or zero.
func isZero(f *wireField, content []byte) bool {
	switch {
	case f.pointer || f.many != single:
		return false
	case f.isNumber():
		n, _ := uvarint(content)
		return n == 0
	default: // A text, bytes, a time.
		return len(content) == 0
	}
}

// locate finds the fields of a message: which are there, by the bits of a number, and where. False: they are not as they are written.
func (m *wireMessage) locate(data []byte, spans []span) (present uint64, ok bool) {
	last := -1
	for at := 0; at < len(data); {
		begun := at
		key, n := uvarint(data[at:])
		at += n
		number := int(key >> 3)
		if n <= 0 || number >= len(m.index) || number < last {
			return 0, false
		}
		i := int(m.index[number])
		if i < 0 || m.fields[i].key != key {
			return 0, false
		}
		value, n := uvarint(data[at:])
		if n <= 0 {
			return 0, false
		}
		from := at
		if at += n; key&7 == lengthDelimited {
			if value > uint64(len(data)-at) {
				return 0, false
			}
			from = at
			at += int(value)
		}
		switch {
		case number > last:
			if m.fields[i].many != single {
				from = begun
			}
			spans[i] = span{from, at}
			present |= 1 << i
		case m.fields[i].many != single:
			spans[i].end = at
		default:
			return 0, false
		}
		last = number
	}
	return present, true
}

// lengthDelimited is the type of fields that have a length.
const lengthDelimited = 2

// uvarint is binary.Uvarint, faster for what is short.
func uvarint(data []byte) (uint64, int) {
	if len(data) > 0 && data[0] < 0x80 {
		return uint64(data[0]), 1
	}
	return binary.Uvarint(data)
}

// element takes the first of the values of a field that may occur many times.
func (f *wireField) element(data []byte) (content, rest []byte) {
	_, tag := uvarint(data)
	value, n := uvarint(data[tag:])
	if f.key&7 == lengthDelimited {
		from := tag + n
		return data[from : from+int(value)], data[from+int(value):]
	}
	return data[tag : tag+n], data[tag+n:]
}

// list writes all values of a field, which locate has seen.
func (s *transcript) list(f *wireField, data []byte) bool {
	s.to = append(s.to, '[')
	for begun := len(data); len(data) > 0; {
		if len(data) < begun {
			s.to = append(s.to, ',')
		}
		var content []byte
		if content, data = f.element(data); !s.value(&f.wireValue, content) {
			return false
		}
	}
	s.to = append(s.to, ']')
	return true
}

// pairs writes a map, whose keys are in order.
func (s *transcript) pairs(f *wireField, data []byte) bool {
	s.to = append(s.to, '{')
	last := ""
	for begun := len(data); len(data) > 0; {
		first := len(data) == begun
		var content []byte
		content, data = f.element(data)
		key, value, ok := pair(content)
		if !ok || !first && text(key) <= last {
			return false
		}
		if last = text(key); !first {
			s.to = append(s.to, ',')
		}
		s.to = append(appendString(s.to, last), ':')
		if !s.value(&f.wireValue, value) {
			return false
		}
	}
	s.to = append(s.to, '}')
	return true
}

// value writes one value.
func (s *transcript) value(v *wireValue, data []byte) bool {
	switch v.kind {
	case wireText:
		s.to = appendString(s.to, text(data))
	case wireBytes:
		s.to = append(base64.StdEncoding.AppendEncode(append(s.to, '"'), data), '"')
	case wireBool, wireInt32, wireInt64:
		return s.number(v.kind, data)
	case wireMessaged:
		switch {
		case v.message.typed: // A template of another object.
			return false
		case v.message.made:
			return s.made(v, data)
		}
		return s.object(v.message, data)
	case wireQuantity:
		return s.quantity(data)
	case wireTime:
		var t metav1.Time
		if t.Unmarshal(data) != nil {
			return false
		}
		s.to, _ = appendTime(s.to, unsafe.Pointer(&t))
	case wireIntOrString:
		var i intstr.IntOrString
		err := i.Unmarshal(data)
		if err == nil {
			s.to, err = appendIntOrString(s.to, unsafe.Pointer(&i))
		}
		return err == nil
	case wireFieldSet:
		return s.fieldSet(data)
	default:
		return false
	}
	return true
}

func (s *transcript) number(kind wireKind, data []byte) bool {
	n, size := uvarint(data)
	switch {
	case size != len(data):
		return false
	case kind == wireBool:
		s.to = strconv.AppendBool(s.to, n != 0)
	case kind == wireInt32:
		s.to = strconv.AppendInt(s.to, int64(int32(n)), 10) //nolint:gosec // A negative number takes all bits.
	default:
		s.to = strconv.AppendInt(s.to, int64(n), 10) //nolint:gosec // As above.
	}
	return true
}

// quantity writes a quantity, whose text is in protobuf what it is in JSON.
func (s *transcript) quantity(data []byte) bool {
	from, end, ok := fieldAt(data, 0, 1<<3|lengthDelimited)
	if !ok || end != len(data) || from == end {
		return false
	}
	s.to = append(append(append(s.to, '"'), data[from:end]...), '"')
	return true
}

// fieldSet writes metav1.FieldsV1, which is JSON already.
func (s *transcript) fieldSet(data []byte) bool {
	var set metav1.FieldsV1
	if len(data) > 0 {
		from, end, ok := fieldAt(data, 0, 1<<3|lengthDelimited)
		if !ok || end != len(data) {
			return false
		}
		set.Raw = data[from:end]
	}
	raw, err := set.MarshalJSON()
	s.to, err = appendForeign(s.to, raw, err)
	return err == nil
}

// made makes a value and writes it as any other.
func (s *transcript) made(v *wireValue, data []byte) bool {
	value := reflect.New(v.message.of)
	m, ok := reflect.TypeAssert[interface{ Unmarshal([]byte) error }](value)
	if !ok || m.Unmarshal(data) != nil {
		return false
	}
	var err error
	s.to, err = planOf(v.message.of).write(s.to, value.UnsafePointer())
	return err == nil
}
