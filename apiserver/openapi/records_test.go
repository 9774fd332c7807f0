// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/patch"
)

// TestFirstRecordsAreTheLibrarys compares the managed fields of random new objects of every kind with what the library finds by comparing
// trees. It does where the object before is not quite empty; that it has a name says nothing about fields.
func TestFirstRecordsAreTheLibrarys(t *testing.T) {
	types, err := converter()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "ab", "a.b/c", "Z", "1"}
	fill := randfill.NewWithSeed(3).NilChance(0.4).NumElements(0, 4).MaxDepth(16).Funcs(
		func(s *string, c randfill.Continue) {
			if *s = words[c.Intn(len(words))]; c.Intn(500) == 0 {
				*s = []string{"", `"`, "ä", "<", "\\", "\n"}[c.Intn(6)]
			}
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(3), resource.DecimalSI)
		},
		func(at *metav1.Time, c randfill.Continue) { at.Time = time.Unix(c.Int63n(2), 0) },
		func(at *metav1.MicroTime, c randfill.Continue) { at.Time = time.Unix(c.Int63n(2), 0) },
		func(v *intstr.IntOrString, c randfill.Continue) {
			*v = []intstr.IntOrString{intstr.FromInt32(c.Int31n(3)), intstr.FromString("x")}[c.Intn(2)]
		},
		func(e *runtime.RawExtension, _ randfill.Continue) { e.Raw = []byte(`{"a":[1]}`) },
		func(e *apiextensionsv1.JSON, _ randfill.Continue) { e.Raw = []byte(`"x"`) },
		func(p *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
			p.Type, p.Required = words[c.Intn(3)], []string{"a"}
			if c.Bool() {
				p.Properties = map[string]apiextensionsv1.JSONSchemaProps{"b": {Format: "x"}}
			}
		},
		func(*metav1.FieldsV1, randfill.Continue) {},
	)
	for _, k := range catalog.New().All() {
		for i := range k.Served {
			served := &k.Served[i]
			t.Run(served.Version+"/"+served.Kind, func(t *testing.T) {
				for _, reset := range [][]fieldpath.Path{nil, {fieldpath.MakePathOrDie("status")}} {
					m, err := patch.NewManager(patch.ManagerConfig{
						Types: types, Kind: served.GroupVersionKind, Hub: served.GroupVersion(), Reset: reset,
						Convert: func(obj runtime.Object, _ schema.GroupVersion) (runtime.Object, error) { return obj, nil },
						New:     func(schema.GroupVersionKind) (runtime.Object, error) { return served.New(), nil },
						Default: func(runtime.Object) {},
					})
					if err != nil {
						t.Fatal(err)
					}
					empty := func() kinds.Object {
						out := served.New()
						out.GetObjectKind().SetGroupVersionKind(served.GroupVersionKind)
						return out
					}
					for range 40 {
						obj := empty()
						if r.IntN(8) > 0 {
							fill.Fill(obj)
						}
						obj.SetManagedFields(nil)
						obj.GetObjectKind().SetGroupVersionKind(served.GroupVersionKind)
						named, whole := empty(), obj.DeepCopyObject().(kinds.Object)
						named.SetName("x")
						m.Update(named, whole, "me")
						m.Update(empty(), obj, "me")
						compareRecords(t, obj.GetManagedFields(), whole.GetManagedFields())
						checkSecond(t, m, r, obj)
					}
				}
			})
		}
	}
}

// checkSecond compares the record of a second write of the same manager with what the library says. It does where a time is sent that is not the
// stored one's.
func checkSecond(t *testing.T, m *patch.Manager, r *rand.Rand, live kinds.Object) {
	t.Helper()
	next := live.DeepCopyObject().(kinds.Object)
	stir(r, reflect.ValueOf(next).Elem())
	next.SetManagedFields(live.GetManagedFields())
	whole := next.DeepCopyObject().(kinds.Object)
	for _, e := range whole.GetManagedFields() {
		e.Time.Time = e.Time.Add(-time.Hour)
	}
	m.Update(live, next, "me")
	m.Update(live, whole, "me")
	compareRecords(t, next.GetManagedFields(), whole.GetManagedFields())
}

// stir changes some texts and numbers of a value, but for those that say what it is.
func stir(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			stir(r, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Type != reflect.TypeFor[metav1.TypeMeta]() && f.Type != reflect.TypeFor[intstr.Type]() {
				stir(r, v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			stir(r, v.Index(i))
		}
	case reflect.String:
		if r.IntN(20) == 0 {
			v.SetString([]string{"", "a", "b"}[r.IntN(3)])
		}
	case reflect.Int32, reflect.Int64:
		if r.IntN(20) == 0 {
			v.SetInt(r.Int64N(3))
		}
	default: // Enough is changed.
	}
}

// TestWritesOfTheOnlyManager are recorded without a comparison where they can't change what is recorded but for its time: the record is shared then.
func TestWritesOfTheOnlyManager(t *testing.T) {
	types, err := converter()
	if err != nil {
		t.Fatal(err)
	}
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	empty := func() *corev1.Pod {
		return &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	}
	m, err := patch.NewManager(patch.ManagerConfig{
		Types: types, Kind: gvk, Hub: gvk.GroupVersion(), Default: func(runtime.Object) {},
		Convert: func(obj runtime.Object, _ schema.GroupVersion) (runtime.Object, error) { return obj, nil },
		New:     func(schema.GroupVersionKind) (runtime.Object, error) { return empty(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	stored := empty()
	stored.Labels = map[string]string{"a": "b"}
	stored.Spec.Containers = []corev1.Container{{Name: "a", Image: "a:1"}}
	m.Update(empty(), stored, "me")
	stored.Name, stored.ResourceVersion = "one", "5"
	stored.ManagedFields[0].Time = new(metav1.Unix(1, 0))
	for _, tt := range []struct {
		name         string
		change       func(live, obj *corev1.Pod)
		shared, late bool
	}{
		{"nothing", func(_, _ *corev1.Pod) {}, true, false},
		{"a version and a generation", func(_, obj *corev1.Pod) { obj.ResourceVersion, obj.Generation = "", 2 }, true, false},
		{"an image", func(_, obj *corev1.Pod) { obj.Spec.Containers[0].Image = "a:2" }, true, true},
		{"a label, and no record", func(_, obj *corev1.Pod) { obj.Labels["a"], obj.ManagedFields = "c", nil }, true, true},
		{"a field more", func(_, obj *corev1.Pod) { obj.Spec.Hostname = "h" }, false, true},
		{"a field that nobody manages", func(live, obj *corev1.Pod) { live.Spec.Hostname, obj.Spec.Hostname = "h", "i" }, false, true},
		{"a field taken out that nobody manages", func(live, _ *corev1.Pod) { live.Spec.Hostname = "h" }, false, false},
		{"another record", func(_, obj *corev1.Pod) { obj.ManagedFields[0].Manager, obj.Labels["a"] = "you", "c" }, false, true},
		{"a record given up", func(_, obj *corev1.Pod) {
			obj.ManagedFields, obj.Labels["a"] = []metav1.ManagedFieldsEntry{{}}, "c"
		}, false, true},
		{"of two managers", func(live, obj *corev1.Pod) {
			live.ManagedFields = append(live.ManagedFields, *live.ManagedFields[0].DeepCopy())
			live.ManagedFields[1].Manager, obj.ManagedFields = "you", nil
			obj.Labels["a"] = "c"
		}, false, true},
		{"applied", func(live, obj *corev1.Pod) {
			live.ManagedFields[0].Operation, obj.ManagedFields = metav1.ManagedFieldsOperationApply, nil
			obj.Labels["a"] = "c"
		}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			live, obj := stored.DeepCopy(), stored.DeepCopy()
			tt.change(live, obj)
			m.Update(live, obj, "me")
			shared, late := false, false
			for _, e := range obj.ManagedFields {
				shared = shared || e.FieldsV1 == live.ManagedFields[0].FieldsV1
				late = late || e.Manager == "me" && e.Operation == metav1.ManagedFieldsOperationUpdate && !e.Time.Equal(new(metav1.Unix(1, 0)))
			}
			if shared != tt.shared || late != tt.late {
				t.Errorf("the record is shared: %v, with a new time: %v; want %v, %v", shared, late, tt.shared, tt.late)
			}
		})
	}
}

func compareRecords(t *testing.T, got, want []metav1.ManagedFieldsEntry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("managed fields = %v, want %v", got, want)
	}
	for i := range got {
		g, w := got[i], want[i]
		if !bytes.Equal(g.FieldsV1.GetRawBytes(), w.FieldsV1.GetRawBytes()) {
			t.Fatalf("fields\n%s, want\n%s", g.FieldsV1.GetRawBytes(), w.FieldsV1.GetRawBytes())
		}
		if g.Time == nil {
			t.Fatal("managed fields have no time")
		}
		g.FieldsV1, g.Time, w.FieldsV1, w.Time = nil, nil, nil, nil
		if g != w {
			t.Fatalf("managed fields = %+v, want %+v", g, w)
		}
	}
}
