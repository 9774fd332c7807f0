// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"k8s.io/apimachinery/pkg/api/resource"
)

// appenderOfMap knows the maps that nearly every object has, and those of other types by their plan.
func (m planner) appenderOfMap(t reflect.Type) appender {
	elem := t.Elem()
	switch {
	case t.Key().Kind() != reflect.String || implements(t.Key(), textMarshaler):
		return standard(t)
	case elem == reflect.TypeFor[string]():
		return func(to []byte, p unsafe.Pointer) ([]byte, error) {
			return appendMap(to, *(*map[string]string)(p), func(to []byte, v *string) []byte { return appendString(to, *v) })
		}
	case elem == reflect.TypeFor[[]byte]():
		return func(to []byte, p unsafe.Pointer) ([]byte, error) {
			return appendMap(to, *(*map[string][]byte)(p), func(to []byte, v *[]byte) []byte { return appendBytes(to, *v) })
		}
	case elem == reflect.TypeFor[resource.Quantity]():
		return func(to []byte, p unsafe.Pointer) ([]byte, error) {
			return appendMap(to, *(*map[string]resource.Quantity)(p), func(to []byte, v *resource.Quantity) []byte {
				return append(append(append(to, '"'), v.String()...), '"')
			})
		}
	case elem.Kind() == reflect.Interface || mindsAddress(elem):
		return standard(t)
	}
	return m.appenderOfEntries(t)
}

// appendMap appends a map in the order of its keys.
func appendMap[V any](to []byte, values map[string]V, write func(to []byte, v *V) []byte) ([]byte, error) {
	if values == nil {
		return append(to, "null"...), nil
	}
	var few [8]string
	keys := few[:0]
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	to = append(to, '{')
	var v V // One for all, as its address is given away.
	for i, key := range keys {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(appendString(to, key), ':')
		v = values[key]
		to = write(to, &v)
	}
	return append(to, '}'), nil
}

// mindsAddress tells types that encoding/json writes in another way where they have no address, as the values of maps have none: it
// misses the methods of pointers then. What is behind a pointer or in a slice has an address all the same.
func mindsAddress(t reflect.Type) bool {
	for _, method := range []reflect.Type{marshaler, textMarshaler} {
		if implements(t, method) {
			return !t.Implements(method)
		}
	}
	switch t.Kind() {
	case reflect.Array:
		return mindsAddress(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if mindsAddress(f.Type) {
				return true
			}
		}
		return false
	default:
		return false
	}
}

// appenderOfEntries writes a map of any type, its values by their plan.
func (m planner) appenderOfEntries(t reflect.Type) appender {
	elem := m.plan(t.Elem())
	var pool sync.Pool
	return func(to []byte, p unsafe.Pointer) ([]byte, error) {
		values := reflect.NewAt(t, p).Elem()
		switch {
		case values.IsNil():
			return append(to, "null"...), nil
		case values.Len() == 0:
			return append(to, "{}"...), nil
		}
		e, ok := pool.Get().(*entries)
		if !ok {
			e = newEntries(t)
		}
		e.take(values)
		to = append(to, '{')
		for i, entry := range e.sorted {
			if i > 0 {
				to = append(to, ',')
			}
			to = append(appendString(to, entry.key), ':')
			var err error
			if to, err = elem.write(to, entry.value); err != nil {
				return to, err
			}
		}
		if e.size() <= scratchMax {
			e.clear()
			pool.Put(e)
		}
		return append(to, '}'), nil
	}
}

// entries is what a map contains, copied: to be sorted, and because plans write what has an address. Where a map contains maps of its own
// type, there are entries for each of those that are being written. They are used again, empty, as the copies of large structs would be
// most of the garbage.
type entries struct {
	// key is a variable of the type that the map's keys have.
	key reflect.Value
	// values is a slice of the map's values, in no order.
	values reflect.Value
	// sorted is in the order of the keys.
	sorted []entry
}

// entry is a key of a map, and where the copy of its value is.
type entry struct {
	key   string
	value unsafe.Pointer
}

// newEntries returns entries for maps of a type.
func newEntries(t reflect.Type) *entries {
	return &entries{key: reflect.New(t.Key()).Elem(), values: reflect.New(reflect.SliceOf(t.Elem())).Elem()}
}

// take copies what is in a map. The entries are empty before.
func (e *entries) take(from reflect.Value) {
	n := from.Len()
	e.values.Grow(n)
	e.values.SetLen(n)
	e.sorted = slices.Grow(e.sorted, n)
	at := from.MapRange()
	for i := 0; at.Next(); i++ {
		e.key.SetIterKey(at)
		value := e.values.Index(i)
		value.SetIterValue(at)
		e.sorted = append(e.sorted, entry{e.key.String(), value.Addr().UnsafePointer()})
	}
	slices.SortFunc(e.sorted, func(a, b entry) int { return strings.Compare(a.key, b.key) })
}

// size is what the entries take of memory.
func (e *entries) size() uintptr {
	return uintptr(e.values.Cap())*e.values.Type().Elem().Size() + uintptr(cap(e.sorted))*unsafe.Sizeof(entry{})
}

// clear empties the entries, so that they hold on to nothing.
func (e *entries) clear() {
	e.key.SetZero()
	e.values.Clear()
	e.values.SetLen(0)
	clear(e.sorted)
	e.sorted = e.sorted[:0]
}
