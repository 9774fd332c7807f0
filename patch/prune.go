// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/internal/equal"
)

// leaves are the structures that are no maps on the wire.
var leaves = map[reflect.Type]bool{
	reflect.TypeFor[resource.Quantity](): true, reflect.TypeFor[metav1.Time](): true, reflect.TypeFor[metav1.MicroTime](): true,
	reflect.TypeFor[intstr.IntOrString](): true, reflect.TypeFor[runtime.RawExtension](): true, reflect.TypeFor[metav1.FieldsV1](): true,
}

// prune returns copies of two objects of one type without the fields that are equal in both, but for those of metadata that say which object it is: a
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
		case !fa.CanSet() || fa.Type() == reflect.TypeFor[metav1.TypeMeta]():
		case fa.Type() == reflect.TypeFor[metav1.ObjectMeta]():
			pruneMeta(fa.Addr().Interface().(*metav1.ObjectMeta), fb.Addr().Interface().(*metav1.ObjectMeta))
		case fa.Kind() == reflect.Struct && !leaves[fa.Type()]:
			pruneStruct(fa, fb)
		case equal.Wire(fa.Addr().Interface(), fb.Addr().Interface()):
			fa.SetZero()
			fb.SetZero()
		}
	}
}

// pruneMeta clears the lists and maps of metadata that are the same.
func pruneMeta(a, b *metav1.ObjectMeta) {
	if equal.Wire(&a.Labels, &b.Labels) {
		a.Labels, b.Labels = nil, nil
	}
	if equal.Wire(&a.Annotations, &b.Annotations) {
		a.Annotations, b.Annotations = nil, nil
	}
	if equal.Wire(&a.OwnerReferences, &b.OwnerReferences) {
		a.OwnerReferences, b.OwnerReferences = nil, nil
	}
	if equal.Wire(&a.Finalizers, &b.Finalizers) {
		a.Finalizers, b.Finalizers = nil, nil
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
