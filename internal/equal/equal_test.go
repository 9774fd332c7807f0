// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package equal_test

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"sigs.k8s.io/randfill"

	"kogge.dev/kogge/internal/equal"
)

// wire is what Wire is to agree with.
var wire = conversion.EqualitiesOrDie(
	func(a, b resource.Quantity) bool { return a.String() == b.String() },
	func(a, b metav1.Time) bool { return a.Equal(&b) },
	func(a, b metav1.MicroTime) bool { return a.Equal(&b) },
	func(a, b metav1.FieldsV1) bool { return a.Equal(b) },
)

var quantities = []string{"0", "1", "1000m", "1Gi", "1024Mi", "0.5", "500m", "100000000000000000000"}

// change changes one place of an object, found by going down at random. It returns false where it found none.
func change(v reflect.Value, r *rand.Rand) bool {
	if !v.CanSet() { // within a moment
		return false
	}
	switch v.Type() {
	case reflect.TypeFor[resource.Quantity]():
		v.Set(reflect.ValueOf(resource.MustParse(quantities[r.IntN(len(quantities))])))
		return true
	case reflect.TypeFor[metav1.Time]():
		now := time.Unix(int64(r.IntN(2)), 0)
		v.Set(reflect.ValueOf(metav1.Time{Time: []time.Time{now, now.UTC()}[r.IntN(2)]}))
		return true
	}
	switch v.Kind() { //nolint:exhaustive // objects have no others, or need no change of them
	case reflect.Struct:
		return v.NumField() > 0 && change(v.Field(r.IntN(v.NumField())), r)
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			return true
		}
		if r.IntN(4) == 0 {
			v.SetZero()
			return true
		}
		return change(v.Elem(), r)
	case reflect.Slice:
		switch n := v.Len(); {
		case n == 0 && v.IsNil():
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		case n == 0:
			v.SetZero()
		case r.IntN(4) == 0:
			v.SetLen(n - 1)
		default:
			return change(v.Index(r.IntN(n)), r)
		}
		return true
	case reflect.Map:
		if v.Len() == 0 {
			v.Set(reflect.MakeMap(v.Type()))
			return true
		}
		key := v.MapKeys()[0]
		value := reflect.New(v.Type().Elem()).Elem()
		value.Set(v.MapIndex(key))
		if r.IntN(3) == 0 {
			v.SetMapIndex(key, reflect.Value{})
			return true
		}
		found := change(value, r)
		v.SetMapIndex(key, value)
		return found
	case reflect.String:
		v.SetString([]string{"", "a", "b"}[r.IntN(3)])
		return true
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
		return true
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.IntN(3)))
		return true
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(3)))
		return true
	}
	return false
}

func TestEqualAgreesWithApimachinery(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(0.3).NumElements(0, 3).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse(quantities[c.Intn(len(quantities))])
		},
		func(at *metav1.Time, c randfill.Continue) { at.Time = time.Unix(c.Int63n(2), 0) },
		func(at *metav1.MicroTime, c randfill.Continue) { at.Time = time.Unix(c.Int63n(2), 0) },
		func(f *metav1.FieldsV1, c randfill.Continue) { f.SetRawString([]string{"", "{}"}[c.Intn(2)]) },
	)
	r := rand.New(rand.NewPCG(1, 2))
	same, changed := 0, 0
	for i := range 1000 {
		objects := []any{&corev1.Pod{}, &corev1.PersistentVolume{}, &networkingv1.NetworkPolicy{}, &corev1.Event{}, &corev1.Secret{}}
		a := objects[i%len(objects)]
		fill.Fill(a)
		b := reflect.ValueOf(a).MethodByName("DeepCopy").Call(nil)[0].Interface()
		for range r.IntN(3) {
			change(reflect.ValueOf(b).Elem(), r)
		}
		want, wantWire := equality.Semantic.DeepEqual(a, b), wire.DeepEqualWithNilDifferentFromEmpty(a, b)
		if got := equal.Semantic(a, b); got != want {
			t.Fatalf("Semantic = %v, want %v:\n%#v\n%#v", got, want, a, b)
		}
		if got := equal.Wire(a, b); got != wantWire {
			t.Fatalf("Wire = %v, want %v:\n%#v\n%#v", got, wantWire, a, b)
		}
		va, vb := reflect.ValueOf(a).Elem().Interface(), reflect.ValueOf(b).Elem().Interface()
		if got := equal.Semantic(va, vb); got != want {
			t.Fatalf("Semantic of values = %v, want %v", got, want)
		}
		if want {
			same++
		} else {
			changed++
		}
	}
	if same < 200 || changed < 200 {
		t.Errorf("%d pairs were equal and %d not: too few of one to say much", same, changed)
	}
}

func TestEqualOfNothingAndOfTypes(t *testing.T) {
	var none *corev1.Pod
	for _, c := range []struct {
		a, b any
		want bool
	}{
		{nil, nil, true},
		{nil, none, false},
		{none, none, true},
		{none, &corev1.Pod{}, false},
		{&corev1.Pod{}, &corev1.Node{}, false},
		{[]string{}, []string(nil), true},
		{map[string]string{}, map[string]string(nil), true},
		{1.5, 1.5, true},
		{1.5, 2.5, false},
		{"a", "a", true},
	} {
		if got := equal.Semantic(c.a, c.b); got != c.want || got != equality.Semantic.DeepEqual(c.a, c.b) {
			t.Errorf("Semantic(%#v, %#v) = %v", c.a, c.b, got)
		}
	}
	if equal.Wire([]string{}, []string(nil)) || equal.Wire(map[string]string{}, map[string]string(nil)) {
		t.Error("nothing and an empty list read the same")
	}
}

func TestEqualAllocatesNothing(t *testing.T) {
	a := &corev1.Pod{}
	a.Spec.Containers = []corev1.Container{{Name: "a", Env: []corev1.EnvVar{{Name: "x", Value: "y"}}, Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{"cpu": resource.MustParse("1")}, Requests: corev1.ResourceList{"memory": resource.MustParse("1Gi")},
	}}}
	a.Labels, a.CreationTimestamp = map[string]string{"a": "b"}, metav1.Unix(5, 0)
	b := a.DeepCopy()
	if n := testing.AllocsPerRun(20, func() {
		if !equal.Semantic(a, b) {
			t.Error("copies differ")
		}
	}); n > 0 {
		t.Errorf("Semantic allocated %v times", n)
	}
}
