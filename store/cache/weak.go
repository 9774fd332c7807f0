// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"reflect"
	"unsafe"
	"weak"

	"kogge.dev/kogge/kinds"
)

// weakObject finds an object again for as long as somebody holds it, without holding it itself. A weak.Pointer needs the
// concrete type, which differs from cache to cache: so it points to the object's first byte, and the type stands beside.
type weakObject struct {
	first weak.Pointer[byte]
	// elem is the type that the object points to; nil when there is no object.
	elem reflect.Type
}

func makeWeak(obj kinds.Object) weakObject {
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return weakObject{}
	}
	return weakObject{first: weak.Make((*byte)(v.UnsafePointer())), elem: v.Type().Elem()}
}

func (w weakObject) get() kinds.Object {
	if w.elem == nil {
		return nil
	}
	first := w.first.Value()
	if first == nil {
		return nil
	}
	obj, _ := reflect.TypeAssert[kinds.Object](reflect.NewAt(w.elem, unsafe.Pointer(first)))
	return obj
}
