// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

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
					}
				}
			})
		}
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
