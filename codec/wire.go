// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// wireMessage is what the tags of a struct's fields say of it in protobuf and in JSON.
type wireMessage struct {
	of reflect.Type
	// fields in the order of JSON; no more than a number has bits.
	fields []wireField
	// always has the bits of the fields that are written even where they are not there.
	always uint64
	// index finds fields by their numbers, or is -1.
	index []int8
	// made is set where not all is known: it must be made to be written.
	made bool
	// typed is set where JSON says of which type it is, which protobuf does not: only of whole objects that is known.
	typed bool
}

// wireField is one field of a message.
type wireField struct {
	// name with quotes and colon.
	name string
	// key on the wire: number and type.
	key  uint64
	many plurality
	// omitted is set where JSON is without what is empty; hidden, where it is always without the field.
	omitted, hidden bool
	// pointer is set where a value that is there is not empty, whatever it is.
	pointer bool
	// absent is what JSON has of it where it is not there; empty for messages, which are written as such.
	absent string
	wireValue
}

// wireValue is what is known of a value: that of a field, or each of those in a list or map.
type wireValue struct {
	kind wireKind
	// message is set for messages.
	message *wireMessage
}

// plurality is how many values a field has.
type plurality int8

const (
	single plurality = iota
	listed
	mapped
)

// wireKind is how a value is written.
type wireKind int8

const (
	wireUnknown wireKind = iota
	wireText
	wireBytes
	wireBool
	wireInt32
	wireInt64
	wireMessaged
	wireInline // a message whose fields are in JSON those of the one that it is in
	wireType   // metav1.TypeMeta, which is not on the wire
	wireTime
	wireQuantity
	wireIntOrString
	wireFieldSet
)

var wireMessages perType[wireMessage]

func wireMessageOf(t reflect.Type) *wireMessage {
	return wireMessages.of(t, func(t reflect.Type) map[reflect.Type]*wireMessage {
		made := wirer{}
		made.message(t)
		return made
	})
}

// wirer makes the messages that contain each other.
type wirer map[reflect.Type]*wireMessage

func (w wirer) message(t reflect.Type) *wireMessage {
	m, ok := w[t]
	if !ok {
		m = &wireMessage{of: t}
		w[t] = m
		m.typed = hasType(t)
		m.made = implements(t, marshaler) || implements(t, textMarshaler) || !w.fields(m) || !distinct(m, map[string]bool{})
	}
	return m
}

// hasType tells whether a structure says of which type it is.
func hasType(t reflect.Type) bool {
	for sf := range t.Fields() {
		if sf.Type == reflect.TypeFor[metav1.TypeMeta]() {
			return true
		}
	}
	return false
}

// fields lists the fields of a message; false where something is not known.
func (w wirer) fields(m *wireMessage) bool {
	for sf := range m.of.Fields() {
		f, ok := w.field(sf)
		number := int(f.key >> 3)
		if !ok || len(m.fields) == 64 || number > 1<<10 {
			return false
		}
		for number >= len(m.index) {
			m.index = append(m.index, -1)
		}
		if f.key != 0 {
			if m.index[number] >= 0 {
				return false
			}
			m.index[number] = int8(len(m.fields))
		}
		if !f.omitted && !f.hidden {
			m.always |= 1 << len(m.fields)
		}
		m.fields = append(m.fields, f)
	}
	return true
}

// distinct tells that no name is there twice.
func distinct(m *wireMessage, names map[string]bool) bool {
	for i := range m.fields {
		f := &m.fields[i]
		if f.kind == wireInline && (f.message.made || !distinct(f.message, names)) || f.name != "" && names[f.name] {
			return false
		}
		names[f.name] = true
	}
	return true
}

// field reads the tags of a field. Those that are not exported have none on the wire.
func (w wirer) field(sf reflect.StructField) (f wireField, ok bool) {
	name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
	inline := sf.Anonymous && name == ""
	switch {
	case sf.Type == reflect.TypeFor[metav1.TypeMeta]():
		return wireField{wireValue: wireValue{kind: wireType}}, inline
	case !sf.IsExported():
		return f, false
	case name == "":
		name = sf.Name
	}
	tag := strings.Split(sf.Tag.Get("protobuf"), ",")
	if len(tag) < 2 {
		return f, false
	}
	number, err := strconv.ParseUint(tag[1], 10, 16)
	if err != nil {
		return f, false
	}
	var empty structField
	if !f.take(w, sf.Type) || !empty.read(sf.Type, strings.Split(options, ",")) {
		return f, false
	}
	if f.key = number << 3; !f.isNumber() { // What the tag says of its type on the wire is now and then not so.
		f.key |= lengthDelimited
	}
	f.hidden = name == "-" && options == ""
	f.omitted = empty.empty != never
	if inline {
		f.kind = wireInline
		return f, f.message != nil && f.many == single && !f.pointer
	}
	if !f.hidden {
		f.name = string(append(appendString(nil, name), ':'))
	}
	return f, empty.empty != zeroAsked || f.kind == wireTime
}

func (v *wireValue) isNumber() bool {
	return v.kind == wireBool || v.kind == wireInt32 || v.kind == wireInt64
}

// take takes in a field's type; false where it is not known.
func (f *wireField) take(w wirer, t reflect.Type) bool {
	f.absent = "null"
	switch {
	case t.Kind() != reflect.Struct && (implements(t, marshaler) || implements(t, textMarshaler)):
		return false
	case t.Kind() == reflect.Pointer:
		f.pointer = true
		return f.valued(w, t.Elem())
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		f.many = listed
		return !implements(t, reflect.TypeFor[unmarshaler]()) && f.valued(w, t.Elem())
	case t.Kind() == reflect.Map:
		f.many = mapped
		return t.Key().Kind() == reflect.String && !implements(t.Key(), textMarshaler) && f.valued(w, t.Elem()) && !f.isNumber()
	case !f.valued(w, t):
		return false
	}
	switch f.kind {
	case wireText:
		f.absent = `""`
	case wireBool:
		f.absent = "false"
	case wireInt32, wireInt64:
		f.absent = "0"
	case wireBytes:
	default:
		f.absent = ""
	}
	return true
}

// valued takes in the type of a value; false where it is not known.
func (v *wireValue) valued(w wirer, t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		v.kind = wireTime
		return true
	case reflect.TypeFor[resource.Quantity]():
		v.kind = wireQuantity
		return true
	case reflect.TypeFor[intstr.IntOrString]():
		v.kind = wireIntOrString
		return true
	case reflect.TypeFor[metav1.FieldsV1]():
		v.kind = wireFieldSet
		return true
	}
	if t.Kind() == reflect.Struct {
		v.kind, v.message = wireMessaged, w.message(t)
		return true
	}
	if implements(t, marshaler) || implements(t, textMarshaler) {
		return false
	}
	switch {
	case t.Kind() == reflect.String:
		v.kind = wireText
	case t.Kind() == reflect.Bool:
		v.kind = wireBool
	case t.Kind() == reflect.Int32:
		v.kind = wireInt32
	case t.Kind() == reflect.Int64:
		v.kind = wireInt64
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !implements(t.Elem(), marshaler) && !implements(t.Elem(), textMarshaler):
		v.kind = wireBytes
	}
	return v.kind != wireUnknown
}
