// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// appender appends the JSON of the value at p, whose type it was made for.
type appender func(to []byte, p unsafe.Pointer) ([]byte, error)

// plan is how a type is written. It is looked up when it is run, so that a type can contain itself.
type plan struct{ write appender }

// plans of all types written so far. Types live as long as the program does.
var plans perType[plan]

// AppendJSON appends what encoding/json makes of obj, byte for byte, several times as fast: how a type is written is worked out
// once, and what the API's own types write of themselves is not parsed again to be trusted. obj is a pointer; what it points to does
// not change meanwhile.
func AppendJSON(to []byte, obj any) ([]byte, error) {
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		data, err := json.Marshal(obj)
		return append(to, data...), err
	}
	return planOf(v.Type().Elem()).write(to, v.UnsafePointer())
}

// scratch is a buffer for what is written for a moment, so that what is kept is as long as it must be.
type scratch struct{ data []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// scratchMax is the size above which a scratch buffer is not used again.
const scratchMax = 256 << 10

func takeScratch() *scratch {
	if s, ok := scratches.Get().(*scratch); ok {
		return s
	}
	return new(scratch)
}

func (s *scratch) giveBack() {
	if cap(s.data) <= scratchMax {
		s.data = s.data[:0]
		scratches.Put(s)
	}
}

// Fit returns what build appends, in bytes that are no longer than that.
func Fit(build func(to []byte) ([]byte, error)) ([]byte, error) {
	s := takeScratch()
	defer s.giveBack()
	var err error
	if s.data, err = build(s.data); err != nil {
		return nil, err
	}
	return bytes.Clone(s.data), nil
}

// marshalJSON is AppendJSON and a newline.
func marshalJSON(obj any) ([]byte, error) {
	return Fit(func(to []byte) ([]byte, error) {
		to, err := AppendJSON(to, obj)
		return append(to, '\n'), err
	})
}

// perType keeps what is made once for each type, of those that contain each other together.
type perType[R any] struct{ known sync.Map }

// of returns what is made of a type. Together makes it, with what is made of the types inside.
func (p *perType[R]) of(t reflect.Type, together func(t reflect.Type) map[reflect.Type]*R) *R {
	if known, ok := p.known.Load(t); ok {
		if r, ok := known.(*R); ok {
			return r
		}
	}
	made := together(t)
	for of, r := range made { // All are whole now.
		p.known.Store(of, r)
	}
	return made[t]
}

func planOf(t reflect.Type) *plan {
	return plans.of(t, func(t reflect.Type) map[reflect.Type]*plan {
		made := planner{}
		made.plan(t)
		return made
	})
}

// planner makes the plans of types that contain each other.
type planner map[reflect.Type]*plan

func (m planner) plan(t reflect.Type) *plan {
	p, ok := m[t]
	if !ok {
		p = new(plan)
		m[t] = p
		p.write = m.appender(t)
	}
	return p
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()
)

// implements tells types whose values have a method, with or without a pointer. Pointers are followed before it is asked.
func implements(t, method reflect.Type) bool {
	return t.Kind() != reflect.Pointer && (t.Implements(method) || reflect.PointerTo(t).Implements(method))
}

func (m planner) appender(t reflect.Type) appender {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		return appendTime
	case reflect.TypeFor[resource.Quantity]():
		return appendQuantity
	case reflect.TypeFor[intstr.IntOrString]():
		return appendIntOrString
	case reflect.TypeFor[metav1.FieldsV1]():
		return func(to []byte, p unsafe.Pointer) ([]byte, error) {
			data, err := (*metav1.FieldsV1)(p).MarshalJSON()
			return appendForeign(to, data, err)
		}
	case reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrArray]():
		return m.appenderOfSchemaOrArray()
	case reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrBool]():
		return m.appenderOfSchemaOrBool()
	case reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrStringArray]():
		return m.appenderOfSchemaOrStringArray()
	case reflect.TypeFor[apiextensionsv1.JSON]():
		return appendRaw
	}
	switch {
	case implements(t, marshaler) && t.Kind() != reflect.Interface:
		return func(to []byte, p unsafe.Pointer) ([]byte, error) {
			own, ok := reflect.TypeAssert[json.Marshaler](reflect.NewAt(t, p))
			if !ok {
				return to, fmt.Errorf("%s does not write itself", t)
			}
			data, err := own.MarshalJSON()
			return appendForeign(to, data, err)
		}
	case implements(t, textMarshaler):
		return standard(t)
	}
	return m.appenderOfKind(t)
}

func (m planner) appenderOfKind(t reflect.Type) appender {
	switch t.Kind() {
	case reflect.Bool:
		return func(to []byte, p unsafe.Pointer) ([]byte, error) { return strconv.AppendBool(to, *(*bool)(p)), nil }
	case reflect.Int32:
		return func(to []byte, p unsafe.Pointer) ([]byte, error) {
			return strconv.AppendInt(to, int64(*(*int32)(p)), 10), nil
		}
	case reflect.Int64:
		return func(to []byte, p unsafe.Pointer) ([]byte, error) { return strconv.AppendInt(to, *(*int64)(p), 10), nil }
	case reflect.String:
		return func(to []byte, p unsafe.Pointer) ([]byte, error) { return appendString(to, *(*string)(p)), nil }
	case reflect.Pointer:
		elem := m.plan(t.Elem())
		return func(to []byte, p unsafe.Pointer) ([]byte, error) {
			target := *(*unsafe.Pointer)(p)
			if target == nil {
				return append(to, "null"...), nil
			}
			return elem.write(to, target)
		}
	case reflect.Slice:
		return m.appenderOfSlice(t)
	case reflect.Map:
		return m.appenderOfMap(t)
	case reflect.Struct:
		if fields, ok := m.fields(t); ok {
			return func(to []byte, p unsafe.Pointer) ([]byte, error) { return appendStruct(to, p, fields) }
		}
		return standard(t)
	default:
		return standard(t)
	}
}

// standard leaves a type to encoding/json: kinds that the API hardly uses.
func standard(t reflect.Type) appender {
	return func(to []byte, p unsafe.Pointer) ([]byte, error) {
		data, err := json.Marshal(reflect.NewAt(t, p).Interface())
		return append(to, data...), err
	}
}

func (m planner) appenderOfSlice(t reflect.Type) appender {
	if t.Elem().Kind() == reflect.Uint8 {
		if implements(t.Elem(), marshaler) || implements(t.Elem(), textMarshaler) {
			return standard(t)
		}
		return func(to []byte, p unsafe.Pointer) ([]byte, error) { return appendBytes(to, *(*[]byte)(p)), nil }
	}
	elem, size := m.plan(t.Elem()), t.Elem().Size()
	return func(to []byte, p unsafe.Pointer) ([]byte, error) {
		// All slices begin with the pointer to their first element, and count them in the same place.
		first, n := *(*unsafe.Pointer)(p), len(*(*[]struct{})(p))
		if first == nil {
			return append(to, "null"...), nil
		}
		to = append(to, '[')
		for i := range n {
			if i > 0 {
				to = append(to, ',')
			}
			var err error
			if to, err = elem.write(to, unsafe.Add(first, uintptr(i)*size)); err != nil {
				return to, err
			}
		}
		return append(to, ']'), nil
	}
}

func appendBytes(to, data []byte) []byte {
	if data == nil {
		return append(to, "null"...)
	}
	to = append(to, '"')
	return append(base64.StdEncoding.AppendEncode(to, data), '"')
}

func appendTime(to []byte, p unsafe.Pointer) ([]byte, error) {
	t := (*metav1.Time)(p)
	if t.IsZero() {
		return append(to, "null"...), nil
	}
	return append(t.UTC().AppendFormat(append(to, '"'), time.RFC3339), '"'), nil
}

func appendQuantity(to []byte, p unsafe.Pointer) ([]byte, error) {
	return append(append(append(to, '"'), (*resource.Quantity)(p).String()...), '"'), nil
}

func appendIntOrString(to []byte, p unsafe.Pointer) ([]byte, error) {
	v := (*intstr.IntOrString)(p)
	switch v.Type {
	case intstr.Int:
		return strconv.AppendInt(to, int64(v.IntVal), 10), nil
	case intstr.String:
		return appendString(to, v.StrVal), nil
	default:
		_, err := v.MarshalJSON()
		return to, err
	}
}

// appendForeign appends what a type has written of itself. Where it is not as encoding/json would leave it, that makes it so, or finds
// out that it is no JSON.
func appendForeign(to, data []byte, err error) ([]byte, error) {
	if err != nil {
		return to, err
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	if !isPlain(data) {
		data, err = json.Marshal(json.RawMessage(data))
	}
	return append(to, data...), err
}

// emptiness is how a field is seen to be empty, and then left out.
type emptiness int

const (
	never       emptiness = iota
	zeroPointer           // a pointer that is nil
	zeroCount             // a string or slice: the count comes after the pointer
	zeroMap
	zeroByte
	zeroFour
	zeroEight
	zeroAsked // its type says so
)

// structField is one field of a struct, or of a struct embedded in it.
type structField struct {
	// name with quotes and colon.
	name   string
	offset uintptr
	// text is set for strings, the most frequent kind.
	text  bool
	empty emptiness
	// asks is set for zeroAsked.
	asks func(p unsafe.Pointer) bool
	*plan
}

func appendStruct(to []byte, p unsafe.Pointer, fields []structField) ([]byte, error) {
	to = append(to, '{')
	begun := len(to)
	for i := range fields {
		f := &fields[i]
		at := unsafe.Add(p, f.offset)
		if f.isEmpty(at) {
			continue
		}
		if len(to) > begun {
			to = append(to, ',')
		}
		to = append(to, f.name...)
		if f.text {
			to = appendString(to, *(*string)(at))
			continue
		}
		var err error
		if to, err = f.write(to, at); err != nil {
			return to, err
		}
	}
	return append(to, '}'), nil
}

func (f *structField) isEmpty(p unsafe.Pointer) bool {
	switch f.empty {
	case zeroPointer:
		return *(*unsafe.Pointer)(p) == nil
	case zeroCount:
		return len(*(*string)(p)) == 0
	case zeroMap:
		return len(*(*map[string]struct{})(p)) == 0
	case zeroByte:
		return *(*byte)(p) == 0
	case zeroFour:
		return *(*int32)(p) == 0
	case zeroEight:
		return *(*int64)(p) == 0
	case zeroAsked:
		return f.asks(p)
	default:
		return false
	}
}

// fields lists the fields of a struct in the order in which they are written; false where only encoding/json knows.
func (m planner) fields(t reflect.Type) ([]structField, bool) {
	var out []structField
	names := map[string]bool{}
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && name == "":
			if f.Type.Kind() != reflect.Struct {
				return nil, false
			}
			inner, ok := m.fields(f.Type)
			for _, in := range inner {
				ok = ok && !names[in.name]
				names[in.name] = true
				in.offset += f.Offset
				out = append(out, in)
			}
			if !ok {
				return nil, false
			}
			continue
		case !f.IsExported() && f.Anonymous:
			return nil, false
		case !f.IsExported() || tag == "-":
			continue
		case name == "":
			name = f.Name
		}
		name = string(append(appendString(nil, name), ':'))
		field := structField{name: name, offset: f.Offset, plan: m.plan(f.Type)}
		if names[name] || !field.read(f.Type, strings.Split(options, ",")) {
			return nil, false
		}
		names[name] = true
		out = append(out, field)
	}
	return out, true
}

// read takes in a field's type and the options of its tag; false where only encoding/json knows.
func (f *structField) read(t reflect.Type, options []string) bool {
	f.text = t.Kind() == reflect.String && !implements(t, marshaler) && !implements(t, textMarshaler)
	if slices.Contains(options, "string") {
		return false
	}
	if slices.Contains(options, "omitempty") {
		switch t.Kind() {
		case reflect.Pointer, reflect.Interface:
			f.empty = zeroPointer
		case reflect.String, reflect.Slice:
			f.empty = zeroCount
		case reflect.Map:
			f.empty = zeroMap
		case reflect.Bool, reflect.Int8, reflect.Uint8:
			f.empty = zeroByte
		case reflect.Int32, reflect.Uint32:
			f.empty = zeroFour
		case reflect.Int64, reflect.Int, reflect.Uint64:
			f.empty = zeroEight
		case reflect.Struct: // never empty
		default:
			return false
		}
	}
	if !slices.Contains(options, "omitzero") {
		return true
	}
	if f.empty != never || t.Kind() != reflect.Struct {
		return false
	}
	f.empty = zeroAsked
	switch {
	case t == reflect.TypeFor[metav1.Time]():
		f.asks = func(p unsafe.Pointer) bool { return (*metav1.Time)(p).IsZero() }
	case reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ IsZero() bool }]()):
		return false
	default:
		f.asks = func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Elem().IsZero() }
	}
	return true
}
