// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/binary"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// magic begins every protobuf message in Kubernetes' envelope.
var magic = []byte{'k', '8', 's', 0}

// Envelope marshals m and wraps it with its type, the form in which protobuf travels and is stored.
func Envelope(gvk schema.GroupVersionKind, m interface {
	Size() int
	MarshalToSizedBuffer(data []byte) (int, error)
},
) ([]byte, error) {
	size := m.Size()
	head := AppendEnvelope(nil, gvk, size)
	out := make([]byte, len(head)+size, len(head)+size+len(EnvelopeEnd))
	copy(out, head)
	n, err := m.MarshalToSizedBuffer(out[len(head):]) // MarshalTo asks for the size again.
	if err != nil {
		return nil, err
	}
	return append(out[:len(head)+n], EnvelopeEnd...), nil
}

// IsProtobuf tells protobuf in the envelope from other bytes.
func IsProtobuf(data []byte) bool { return bytes.HasPrefix(data, magic) }

// opened takes data out of the envelope. The message in it is not copied.
func opened(data []byte) (runtime.Unknown, error) {
	var u runtime.Unknown
	for rest := data[len(magic):]; len(rest) > 0; {
		tag, n := binary.Uvarint(rest)
		if n <= 0 || tag>>3 == 0 || tag&7 != 2 {
			return copied(data)
		}
		size, m := binary.Uvarint(rest[n:])
		if rest = rest[n:]; m <= 0 || size > uint64(len(rest)-m) {
			return copied(data)
		}
		part := rest[m : m+int(size)]
		rest = rest[m+int(size):]
		switch tag >> 3 {
		case 1:
			if err := u.TypeMeta.Unmarshal(part); err != nil {
				return copied(data)
			}
		case 2:
			u.Raw = part
		}
	}
	return u, nil
}

// copied is opened for what is no plain envelope: it says what is wrong.
func copied(data []byte) (u runtime.Unknown, err error) {
	err = u.Unmarshal(data[len(magic):])
	return u, err
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
