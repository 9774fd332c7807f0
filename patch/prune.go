// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// leaves are the structures that are no maps on the wire.
var leaves = map[reflect.Type]bool{
	reflect.TypeFor[resource.Quantity](): true, reflect.TypeFor[metav1.Time](): true, reflect.TypeFor[metav1.MicroTime](): true,
	reflect.TypeFor[intstr.IntOrString](): true, reflect.TypeFor[runtime.RawExtension](): true, reflect.TypeFor[metav1.FieldsV1](): true,
}

// same reports whether two values of one type read the same on the wire; it may miss that for values whose fields it can't see. It
// is what equality.Semantic is for, without a copy of all that it looks at, and with the difference between nil and empty.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		return sameStruct(a, b)
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Elem().Type() == b.Elem().Type() && same(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			return false
		}
		for entries := a.MapRange(); entries.Next(); {
			other := b.MapIndex(entries.Key())
			if !other.IsValid() || !same(entries.Value(), other) {
				return false
			}
		}
		return true
	default:
		return a.Comparable() && a.Equal(b)
	}
}

func sameStruct(a, b reflect.Value) bool {
	switch a.Type() {
	case reflect.TypeFor[resource.Quantity]():
		left, right := a.Interface().(resource.Quantity), b.Interface().(resource.Quantity)
		return left.Format == right.Format && left.Cmp(right) == 0 && left.String() == right.String()
	case reflect.TypeFor[time.Time]():
		return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
	}
	for i := range a.NumField() {
		if !same(a.Field(i), b.Field(i)) {
			return false
		}
	}
	return true
}

// prune returns copies of two objects of one type without the fields, outside of metadata, that are equal in both: a
// comparison of the copies finds what one of the objects would, and most writes leave most of an object as it was. The
// objects are only read. It returns ok false for objects of different types.
func prune(a, b runtime.Object) (prunedA, prunedB runtime.Object, ok bool) {
	if ua, isTree := a.(*unstructured.Unstructured); isTree {
		ub, isTree := b.(*unstructured.Unstructured)
		if !isTree {
			return nil, nil, false
		}
		left, right := pruneTree(ua.Object, ub.Object)
		return &unstructured.Unstructured{Object: left}, &unstructured.Unstructured{Object: right}, true
	}
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if va.Type() != vb.Type() || va.Kind() != reflect.Pointer || va.IsNil() || vb.IsNil() || va.Elem().Kind() != reflect.Struct {
		return nil, nil, false
	}
	left, right := reflect.New(va.Type().Elem()), reflect.New(va.Type().Elem())
	left.Elem().Set(va.Elem())
	right.Elem().Set(vb.Elem())
	pruneStruct(left.Elem(), right.Elem())
	return left.Interface().(runtime.Object), right.Interface().(runtime.Object), true
}

// pruneStruct clears the fields of two structures that are the same, and those of the structures within them.
func pruneStruct(a, b reflect.Value) {
	for i := range a.NumField() {
		fa, fb := a.Field(i), b.Field(i)
		switch {
		case !fa.CanSet() || fa.Type() == reflect.TypeFor[metav1.TypeMeta]() || fa.Type() == reflect.TypeFor[metav1.ObjectMeta]():
		case fa.Kind() == reflect.Struct && !leaves[fa.Type()]:
			pruneStruct(fa, fb)
		case same(fa, fb):
			fa.SetZero()
			fb.SetZero()
		}
	}
}

func pruneTree(a, b map[string]any) (prunedA, prunedB map[string]any) {
	prunedA, prunedB = make(map[string]any, len(a)), make(map[string]any, len(b))
	for key, value := range a {
		other, both := b[key]
		if !both || key == "apiVersion" || key == "kind" || key == "metadata" || !reflect.DeepEqual(value, other) {
			prunedA[key] = value
		}
	}
	for key, value := range b {
		_, both := a[key]
		if _, kept := prunedA[key]; kept || !both {
			prunedB[key] = value
		}
	}
	return prunedA, prunedB
}
