// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// fills is how many random objects each kind is tried with.
const fills = 8

// fillers keep random objects to what the encodings can carry.
func fillers(serializer.CodecFactory) []any {
	return []any{
		func(j *runtime.RawExtension, c randfill.Continue) { j.Raw = []byte(`{"a":"` + c.String(8) + `"}`) },
		func(j *apiextensionsv1.JSON, _ randfill.Continue) { j.Raw = []byte(`"x"`) },
		func(j *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
			j.Type, j.Description = "object", c.String(12)
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1000), resource.DecimalExponent)
		},
		func(v *intstr.IntOrString, c randfill.Continue) {
			*v = intstr.FromInt32(c.Int31n(90))
			if c.Bool() {
				*v = intstr.FromString(fmt.Sprintf("%d%%", c.Int31n(90)))
			}
		},
		func(t *metav1.MicroTime, c randfill.Continue) {
			*t = metav1.NewMicroTime(metav1.Unix(c.Int63n(1<<30), 0).Time)
		},
		func(s *corev1.NodeConfigStatus, _ randfill.Continue) { *s = corev1.NodeConfigStatus{} },
	}
}

func random(t testing.TB, seed int64, obj kinds.Object) {
	t.Helper()
	codecs := serializer.NewCodecFactory(everything(t).Scheme())
	funcs := fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, fillers)
	fuzzer.FuzzerFor(funcs, rand.NewSource(seed), codecs).Fill(obj)
	obj.SetManagedFields(nil)
}

// everything makes the catalog of all that can be served.
func everything(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Serving(map[string]string{"api/all": "true"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eachFilled visits random objects of all stored kinds in all versions in which they are served, by default or on request.
func eachFilled(t *testing.T, visit func(t *testing.T, k *kinds.Kind, served *kinds.Served, obj kinds.Object)) {
	for _, k := range everything(t).All() {
		for i := range k.Served {
			served := &k.Served[i]
			t.Run(served.Version+"/"+served.Kind, func(t *testing.T) {
				for seed := range int64(fills) {
					obj := served.New()
					random(t, seed, obj)
					obj.GetObjectKind().SetGroupVersionKind(served.GroupVersionKind)
					visit(t, k, served, obj)
				}
			})
		}
	}
}

func TestDefaultingIsIdempotent(t *testing.T) {
	eachFilled(t, func(t *testing.T, k *kinds.Kind, served *kinds.Served, obj kinds.Object) {
		if served.Default != nil {
			served.Default(obj)
		}
		if served.ToStorage != nil {
			stored, err := served.ToStorage(obj)
			if err != nil {
				t.Fatal(err)
			}
			obj = stored
		}
		if k.Default == nil {
			return
		}
		k.Default(obj)
		again := obj.DeepCopyObject().(kinds.Object)
		k.Default(again)
		if !equal.Semantic(obj, again) {
			t.Errorf("defaulting twice differs (-once +twice):\n%s", cmp.Diff(text(t, obj), text(t, again)))
		}
	})
}

func TestObjectsSurviveJSONAndProtobuf(t *testing.T) {
	scheme := everything(t).Scheme()
	proto := protobuf.NewSerializer(scheme, scheme)
	eachFilled(t, func(t *testing.T, k *kinds.Kind, served *kinds.Served, obj kinds.Object) {
		encoded, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		back := served.New()
		if err := json.Unmarshal(encoded, back); err != nil {
			t.Fatalf("decode: %v", err)
		}
		if !equal.Semantic(obj, back) {
			t.Errorf("JSON differs (-before +after):\n%s", cmp.Diff(text(t, obj), text(t, back)))
		}
		var buffer bytes.Buffer
		if err := proto.Encode(obj, &buffer); err != nil {
			t.Fatalf("encode protobuf: %v", err)
		}
		decoded, _, err := proto.Decode(buffer.Bytes(), nil, nil)
		if err != nil {
			t.Fatalf("decode protobuf: %v", err)
		}
		decoded.GetObjectKind().SetGroupVersionKind(served.GroupVersionKind)
		if !equal.Semantic(obj, decoded) {
			t.Errorf("protobuf differs (-before +after):\n%s", cmp.Diff(text(t, obj), text(t, decoded)))
		}
	})
}

func TestJSONIsThatOfTheStandardLibrary(t *testing.T) {
	eachFilled(t, func(t *testing.T, _ *kinds.Kind, served *kinds.Served, obj kinds.Object) {
		obj.SetManagedFields([]metav1.ManagedFieldsEntry{
			{Manager: "<&>", Time: &metav1.Time{}, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:a":{".":{},"k:{\"b\":1.5e3}":null}}`)}},
			{FieldsV1: &metav1.FieldsV1{Raw: []byte("{ \"f:<\": [true] }")}},
		})
		empty := served.New()
		for _, obj := range []kinds.Object{obj, empty} {
			want, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			got, err := codec.AppendJSON(nil, obj)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("AppendJSON() = %s, %v, want %s", got, err, want)
			}
		}
	})
}

func TestVersionsSurviveConversion(t *testing.T) {
	eachFilled(t, func(t *testing.T, k *kinds.Kind, served *kinds.Served, _ kinds.Object) {
		if served.FromStorage == nil {
			return
		}
		stored := k.Storage.New()
		random(t, 1, stored)
		stored.SetAnnotations(map[string]string{"kept": "yes"})
		if k.Default != nil {
			k.Default(stored)
		}
		obj, err := served.FromStorage(stored)
		if err != nil {
			t.Fatal(err)
		}
		if obj.GetAnnotations()["kept"] != "yes" || obj.GetName() != stored.GetName() {
			t.Errorf("conversion loses metadata")
		}
		if gvk := obj.GetObjectKind().GroupVersionKind(); gvk != served.GroupVersionKind && !gvk.Empty() {
			t.Errorf("converted object calls itself %v, want %v", gvk, served.GroupVersionKind)
		}
	})
}

func text(t *testing.T, obj runtime.Object) string {
	t.Helper()
	out, err := json.MarshalIndent(obj, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
