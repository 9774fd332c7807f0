// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package equal compares API objects and parts of them. It says what apimachinery's equality says, without memory for what it has seen:
// API objects are trees.
package equal

import (
	"bytes"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Semantic reports whether a and b mean the same: an empty list is none, a quantity is its value, a time a moment.
func Semantic(a, b any) bool { return equal(a, b, rules{meaning: true}) }

// Wire reports whether a and b read the same on the wire: a quantity is its text, and an empty list is not none.
func Wire(a, b any) bool { return equal(a, b, rules{}) }

// rules are what differs between equalities.
type rules struct {
	// meaning counts, not the form.
	meaning bool
}

func equal(a, b any, r rules) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	return va.Type() == vb.Type() && r.values(va, vb)
}

// values compares two values of one type.
func (r rules) values(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.String:
		return a.String() == b.String()
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return a.Int() == b.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return a.Uint() == b.Uint()
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Pointer() == b.Pointer() || r.values(a.Elem(), b.Elem())
	case reflect.Slice:
		return r.lists(a, b)
	case reflect.Map:
		return r.maps(a, b)
	case reflect.Struct:
		return r.structs(a, b)
	default: // interfaces, numbers with fractions, and what API objects don't have
		return equality.Semantic.DeepEqual(a.Interface(), b.Interface())
	}
}

// empty reports whether a list or map counts as none.
func (r rules) empty(v reflect.Value) bool { return v.IsNil() || r.meaning && v.Len() == 0 }

func (r rules) lists(a, b reflect.Value) bool {
	switch {
	case r.empty(a) || r.empty(b):
		return r.empty(a) && r.empty(b)
	case a.Len() != b.Len():
		return false
	case a.Pointer() == b.Pointer():
		return true
	case a.Type().Elem().Kind() == reflect.Uint8:
		return bytes.Equal(a.Bytes(), b.Bytes())
	}
	for i := range a.Len() {
		if !r.values(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func (r rules) maps(a, b reflect.Value) bool {
	switch {
	case r.empty(a) || r.empty(b):
		return r.empty(a) && r.empty(b)
	case a.Len() != b.Len():
		return false
	case a.Pointer() == b.Pointer():
		return true
	}
	// The usual maps, without a copy of each value.
	switch ma := a.Interface().(type) {
	case map[string]string:
		mb, _ := reflect.TypeAssert[map[string]string](b)
		for k, v := range ma {
			if other, ok := mb[k]; !ok || v != other {
				return false
			}
		}
		return true
	case corev1.ResourceList:
		mb, _ := reflect.TypeAssert[corev1.ResourceList](b)
		for k, v := range ma {
			if other, ok := mb[k]; !ok || !r.quantity(&v, &other) {
				return false
			}
		}
		return true
	}
	for entries := a.MapRange(); entries.Next(); {
		if other := b.MapIndex(entries.Key()); !other.IsValid() || !r.values(entries.Value(), other) {
			return false
		}
	}
	return true
}

func (r rules) structs(a, b reflect.Value) bool {
	switch a.Type() {
	case reflect.TypeFor[resource.Quantity]():
		return r.quantity(pointer[resource.Quantity](a), pointer[resource.Quantity](b))
	case reflect.TypeFor[metav1.Time]():
		return pointer[metav1.Time](a).Equal(pointer[metav1.Time](b))
	case reflect.TypeFor[metav1.MicroTime]():
		return pointer[metav1.MicroTime](a).Equal(pointer[metav1.MicroTime](b))
	case reflect.TypeFor[metav1.FieldsV1]():
		return pointer[metav1.FieldsV1](a).Equal(*pointer[metav1.FieldsV1](b))
	}
	if a.CanAddr() && b.CanAddr() && a.UnsafeAddr() == b.UnsafeAddr() {
		return true
	}
	for i := range a.NumField() {
		if !r.values(a.Field(i), b.Field(i)) {
			return false
		}
	}
	return true
}

// pointer returns a pointer to a T.
func pointer[T any](v reflect.Value) *T {
	if v.CanAddr() {
		p, _ := reflect.TypeAssert[*T](v.Addr())
		return p
	}
	t, _ := reflect.TypeAssert[T](v)
	return &t
}

func (r rules) quantity(a, b *resource.Quantity) bool {
	if *a == *b {
		return true
	}
	if !r.meaning {
		return a.String() == b.String()
	}
	mine := *a // Cmp may change how a quantity is held, and objects are shared.
	return mine.Cmp(*b) == 0
}
