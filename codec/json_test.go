// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/codec"
)

// sameJSON checks AppendJSON against encoding/json.
func sameJSON(t *testing.T, obj any) {
	t.Helper()
	want, wantErr := json.Marshal(obj)
	got, err := codec.AppendJSON([]byte("before"), obj)
	if (err != nil) != (wantErr != nil) {
		t.Errorf("AppendJSON(%T) failed with %v, want %v", obj, err, wantErr)
	}
	if err == nil && string(got) != "before"+string(want) {
		t.Errorf("AppendJSON(%T) = %s, want %s", obj, got, want)
	}
}

type inner struct {
	Name  string `json:"name"`
	Other *inner `json:"other,omitempty"`
}

// shapes has what the API's types have, and some that they hardly have.
type shapes struct {
	metav1.TypeMeta `json:",inline"`
	inner
	NoTag    string
	Dropped  string                       `json:"-"`
	Escaped  string                       `json:"<"`
	Bool     bool                         `json:"bool,omitempty"`
	Byte     int8                         `json:"byte,omitempty"`
	Int      int                          `json:"int,omitempty"`
	Unsigned uint32                       `json:"unsigned,omitempty"`
	Float    float64                      `json:"float"`
	Pointers []**int64                    `json:"pointers"`
	Any      any                          `json:"any"`
	Array    [2]string                    `json:"array"`
	Bytes    []byte                       `json:"bytes"`
	Data     map[string][]byte            `json:"data,omitempty"`
	Text     map[string]string            `json:"text"`
	Limits   map[string]resource.Quantity `json:"limits"`
	ByNumber map[int]string               `json:"byNumber"`
	Many     map[string]inner             `json:"many"`
	Zero     inner                        `json:"zero,omitzero"`
	Time     metav1.Time                  `json:"time,omitzero"`
	Micro    metav1.MicroTime             `json:"micro"`
	Period   metav1.Duration              `json:"period"`
	Port     intstr.IntOrString           `json:"port"`
	Share    *intstr.IntOrString          `json:"share"`
	Raw      runtime.RawExtension         `json:"raw"`
	Words    []string                     `json:"words,omitempty"`
}

// Types that only encoding/json knows how to write.
type (
	quoted struct {
		N int `json:"n,string"`
	}
	twice struct {
		inner
		Name string `json:"name"`
	}
	lent struct {
		*inner
	}
	impossible struct {
		C chan int `json:"c"`
	}
)

func TestJSONIsThatOfTheStandardLibrary(t *testing.T) {
	n := int64(7)
	p := &n
	now := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)))
	full := &shapes{
		TypeMeta: metav1.TypeMeta{Kind: "K"}, inner: inner{Name: "i", Other: &inner{}}, NoTag: "n", Dropped: "d", Escaped: "e",
		Bool: true, Byte: 1, Int: -5, Unsigned: 1 << 31, Float: 1e21, Pointers: []**int64{&p, nil}, Any: []any{"<", 1.5, nil}, Array: [2]string{"a"},
		Bytes: []byte{}, Data: map[string][]byte{"b": nil, "a": []byte("xyz")}, Text: map[string]string{"b": "2", "<a": "1", "": ""},
		Limits:   map[string]resource.Quantity{"m": resource.MustParse("1.5Gi"), "c": {}, "x": *resource.NewMilliQuantity(1500, resource.DecimalSI)},
		ByNumber: map[int]string{10: "x", 9: "y"}, Many: map[string]inner{"k": {Name: "v"}}, Zero: inner{Name: "z"}, Time: now, Micro: metav1.MicroTime(now),
		Period: metav1.Duration{Duration: time.Microsecond}, Port: intstr.FromString("<p>"), Share: new(intstr.FromInt32(-3)),
		Raw: runtime.RawExtension{Raw: []byte(`{"a": "<"}`)}, Words: []string{"\x00\b\f\n\r\t\"\\\u2028\u2029\xff\u00e9\U0001f600<>&"},
	}
	for _, obj := range []any{
		&shapes{}, full, &shapes{Raw: runtime.RawExtension{Raw: []byte(`{`)}}, &shapes{Port: intstr.IntOrString{Type: 9}},
		&quoted{1}, &twice{inner{"a", nil}, "b"}, &lent{&inner{Name: "x"}}, &lent{}, &impossible{}, *full, nil, (*shapes)(nil), new("text"),
		pod(), &corev1.PodList{}, &metav1.Table{Rows: []metav1.TableRow{{Cells: []any{"a", 1}, Object: runtime.RawExtension{Object: pod()}}}},
		&unstructured.Unstructured{Object: map[string]any{"kind": "<K>", "apiVersion": "v1", "n": int64(1), "f": 0.5}},
	} {
		sameJSON(t, obj)
	}
	for range 2 { // The first time made the plans.
		data, err := codec.Marshal(pod(), codec.JSON)
		var want bytes.Buffer
		if e := json.NewEncoder(&want).Encode(pod()); e != nil || err != nil || !bytes.Equal(data, want.Bytes()) {
			t.Errorf("Marshal() = %s, %v, want %s", data, err, want.Bytes())
		}
	}
}

func FuzzJSONText(f *testing.F) {
	for _, s := range []string{"", "plain", "<\x00\u2028\xff\xe2\x80", `{"a":[1,-0.5e+7,true,null,"\u00e9\n"]}`, `{"a": 1}`, `01`, `-`, `"\u12"`, `[1,]`, `{"a"}`, "[[", "\xe2", `""` + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sameJSON(t, &inner{Name: s})
		sameJSON(t, &metav1.ManagedFieldsEntry{FieldsV1: &metav1.FieldsV1{Raw: []byte(s)}})
		sameJSON(t, &corev1.ConfigMap{Data: map[string]string{s: s}, BinaryData: map[string][]byte{s: []byte(s)}})
	})
}

func BenchmarkJSON(b *testing.B) {
	obj := pod()
	obj.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0))
	obj.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")}
	obj.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", Time: &obj.CreationTimestamp, FieldsV1: &metav1.FieldsV1{
		Raw: []byte(`{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}`),
	}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := codec.Marshal(obj, codec.JSON); err != nil {
			b.Fatal(err)
		}
	}
}
