// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package reshape copies values between types that have the same fields, as the versions of one kind do.
package reshape

import "reflect"

// Copy fills the fields of the structure that dst points to from those of the same names in the structure that src points to; fields that
// only one side has are left alone. Where one side has a pointer and the other a value, nil stands for the zero value. Parts of the same type
// become shared: whoever must not share them copies src before. It panics when fields of one name can't be made of each other, which
// a test of any two types finds.
func Copy(dst, src any) {
	assign(reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem())
}

func assign(dst, src reflect.Value) {
	t := dst.Type()
	switch {
	case t == src.Type():
		dst.Set(src)
	case t.Kind() == reflect.Pointer:
		assignPointer(dst, src)
	case src.Kind() == reflect.Pointer:
		if !src.IsNil() {
			assign(dst, src.Elem())
		}
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			if from := src.FieldByName(t.Field(i).Name); from.IsValid() {
				assign(dst.Field(i), from)
			}
		}
	case t.Kind() == reflect.Slice:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.MakeSlice(t, src.Len(), src.Len()))
		for i := range src.Len() {
			assign(dst.Index(i), src.Index(i))
		}
	case t.Kind() == reflect.Map:
		assignMap(dst, src)
	default:
		dst.Set(src.Convert(t))
	}
}

func assignPointer(dst, src reflect.Value) {
	if src.IsZero() { // nil, or the value that nil stands for
		return
	}
	if src.Kind() == reflect.Pointer {
		src = src.Elem()
	}
	dst.Set(reflect.New(dst.Type().Elem()))
	assign(dst.Elem(), src)
}

func assignMap(dst, src reflect.Value) {
	if src.IsNil() {
		return
	}
	t := dst.Type()
	dst.Set(reflect.MakeMapWithSize(t, src.Len()))
	for entries := src.MapRange(); entries.Next(); {
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		assign(key, entries.Key())
		assign(value, entries.Value())
		dst.SetMapIndex(key, value)
	}
}
