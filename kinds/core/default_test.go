// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"kogge.dev/kogge/kinds"
)

// filler makes random objects of the kinds of this package.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.4).NumElements(1, 2).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1_000_000), resource.DecimalSI)
		},
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1e9), 0) },
		func(t *metav1.MicroTime, c randfill.Continue) {
			*t = metav1.NewMicroTime(metav1.Unix(c.Int63n(1e9), 0).Time)
		},
		func(f *[]metav1.ManagedFieldsEntry, _ randfill.Continue) { *f = nil },
		func(v *intstr.IntOrString, c randfill.Continue) {
			if c.Bool() {
				*v = intstr.FromInt32(c.Int31())
			} else {
				*v = intstr.FromString(c.String(0))
			}
		},
	)
}

// Objects are defaulted when they come in and again whenever they are read, so that defaults must add up to themselves,
// also across the wire.
func TestDefaultsAreIdempotent(t *testing.T) {
	for _, k := range Kinds() {
		if k.Default == nil {
			continue
		}
		t.Run(k.Resource, func(t *testing.T) {
			f := filler(1)
			for range 200 {
				obj := k.Storage.New()
				f.Fill(obj)
				k.Default(obj)
				once := encode(t, obj)
				k.Default(obj)
				if diff := cmp.Diff(string(once), string(encode(t, obj))); diff != "" {
					t.Fatalf("the second Default changes the object (-once +twice):\n%s", diff)
				}
				read := k.Storage.New()
				if err := json.Unmarshal(once, read); err != nil {
					t.Fatal(err)
				}
				k.Default(read)
				if diff := cmp.Diff(string(once), string(encode(t, read))); diff != "" {
					t.Fatalf("Default changes what was stored (-stored +read):\n%s", diff)
				}
			}
		})
	}
}

// Nothing that a client sends may bring a strategy down.
func TestStrategiesSurviveAnyObject(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(k.Resource, func(t *testing.T) {
			f := filler(2)
			for range 100 {
				obj, old := k.Storage.New(), k.Storage.New()
				f.Fill(obj)
				f.Fill(old)
				fill(k, obj)
				fill(k, old)
				create(k, obj.DeepCopyObject().(kinds.Object))
				before := encode(t, old)
				for _, sub := range append([]string{""}, partial(k)...) {
					update(k, sub, obj.DeepCopyObject().(kinds.Object), old)
				}
				if diff := cmp.Diff(string(before), string(encode(t, old))); diff != "" {
					t.Fatalf("an update changes the old object (-before +after):\n%s", diff)
				}
				if k.Fields != nil {
					k.Fields(obj)
				}
				if k.Warn != nil {
					k.Warn(kinds.Request{Now: then}, obj, nil)
				}
				if k.Table != nil {
					if got, want := len(k.Table.Row(obj, then.Time)), len(k.Table.Columns); got != want {
						t.Fatalf("a row has %d cells for %d columns", got, want)
					}
				}
			}
		})
	}
}

// partial names the subresources that are partial updates of the object.
func partial(k *kinds.Kind) []string {
	var names []string
	for _, s := range k.Subresources {
		if s.Prepare != nil {
			names = append(names, s.Name)
		}
	}
	return names
}
