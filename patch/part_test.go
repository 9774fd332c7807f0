// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"kogge.dev/kogge/internal/equal"
)

func TestTouched(t *testing.T) {
	for _, tt := range []struct {
		kind        types.PatchType
		patch, want string
	}{
		{types.MergePatchType, `{"metadata":{"labels":null},"spec":{}}`, "metadata spec"},
		{types.MergePatchType, `{}`, ""},
		{types.MergePatchType, `null`, "all"},
		{types.MergePatchType, `[]`, "all"},
		{types.StrategicMergePatchType, `{"status":{"$patch":"replace"}}`, "status"},
		{types.StrategicMergePatchType, `{"$patch":"replace","spec":{}}`, "all"},
		{types.JSONPatchType, `[{"op":"add","path":"/spec/a~1b","value":1},{"op":"test","path":"/metadata/name","value":"x"}]`, "metadata spec"},
		{types.JSONPatchType, `[{"op":"move","from":"/status/a","path":"/spec/a"}]`, "spec status"},
		{types.JSONPatchType, `[{"op":"replace","path":"/data","value":{}}]`, "data"},
		{types.JSONPatchType, `[{"op":"replace","path":"","value":{}}]`, "all"},
		{types.JSONPatchType, `[{"op":"copy","from":"","path":"/spec/a"}]`, "all"},
		{types.JSONPatchType, `[{"op":"add","path":"/a~1b","value":{}}]`, "all"},
		{types.JSONPatchType, `{}`, "all"},
		{types.MergePatchType, `{"metadata":{"managedFields":[{}]}}`, "metadata and the record"},
		{types.MergePatchType, `{"metadata":null}`, "metadata and the record"},
		{types.StrategicMergePatchType, `{"metadata":{"$patch":"replace"}}`, "metadata and the record"},
		{types.JSONPatchType, `[{"op":"remove","path":"/metadata/managedFields/0"}]`, "metadata and the record"},
		{types.JSONPatchType, `[{"op":"copy","from":"/metadata","path":"/status/x"}]`, "metadata status and the record"},
	} {
		fields, ok := Touched(tt.kind, []byte(tt.patch))
		got := "all"
		if ok {
			if got = strings.Join(sets.List(fields.Names), " "); fields.Managed {
				got += " and the record"
			}
		}
		if got != tt.want {
			t.Errorf("Touched(%s) = %q, want %q", tt.patch, got, tt.want)
		}
	}
}

// What a patch makes of a part, completed, must be what it makes of the whole.
func TestPartsArePatchedAsTheWhole(t *testing.T) {
	apply := func(kind types.PatchType, of *corev1.Pod, patch string) *corev1.Pod {
		t.Helper()
		out := &corev1.Pod{}
		if kind == types.StrategicMergePatchType {
			if err := Strategic(of, []byte(patch), out, &Strict{}); err != nil {
				t.Fatal(err)
			}
			return out
		}
		doc, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		if doc, err = Document(kind, doc, []byte(patch), &Strict{}); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(doc, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, tt := range []struct {
		kind  types.PatchType
		patch string
	}{
		{types.MergePatchType, `{"metadata":{"labels":{"app":null,"tier":"x"}}}`},
		{types.MergePatchType, `{"spec":null}`},
		{types.MergePatchType, `{"apiVersion":"v1","kind":"Pod","status":{"phase":"Failed"}}`},
		{types.MergePatchType, `{}`},
		{types.MergePatchType, `{"metadata":{"managedFields":[{}]}}`},
		{types.MergePatchType, `{"metadata":null}`},
		{types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"b","image":"b:9"}],"$setElementOrder/containers":[{"name":"b"},{"name":"a"}]}}`},
		{types.StrategicMergePatchType, `{"metadata":{"uid":"u"},"status":{"conditions":[{"type":"Ready","status":"False"},{"type":"New","status":"True"}]}}`},
		{types.JSONPatchType, `[{"op":"test","path":"/metadata/name","value":"one"},{"op":"replace","path":"/spec/containers/0/image","value":"a:2"}]`},
		{types.JSONPatchType, `[{"op":"move","from":"/metadata/labels","path":"/metadata/annotations"}]`},
	} {
		t.Run(tt.patch, func(t *testing.T) {
			full := func() *corev1.Pod {
				pod := fullPod()
				pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{}}`)}}}
				return pod
			}
			pod := full()
			fields, ok := Touched(tt.kind, []byte(tt.patch))
			if !ok {
				t.Fatal("not known what it touches")
			}
			part, ok := Part(pod, fields)
			if !ok {
				t.Fatal("no part")
			}
			got := apply(tt.kind, part.(*corev1.Pod), tt.patch)
			Complete(got, pod, fields)
			if want := apply(tt.kind, pod, tt.patch); !equal.Semantic(got, want) {
				t.Errorf("of a part: %v\nof the whole: %v", got, want)
			}
			if !equal.Semantic(pod, full()) {
				t.Error("the object was changed")
			}
		})
	}
}

// What may be shared is, and everything else is a copy.
func TestCompleteShares(t *testing.T) {
	pod, got := fullPod(), &corev1.Pod{}
	Complete(got, pod, Fields{Names: sets.New("status")}, "spec", "status")
	if &got.Spec.Containers[0] != &pod.Spec.Containers[0] {
		t.Error("the spec is a copy")
	}
	if got.Status.Phase != "" {
		t.Error("what was patched is as before")
	}
	got.Labels["app"] = "changed"
	if !equal.Semantic(pod, fullPod()) {
		t.Error("the object's metadata is shared")
	}
}

func TestNoPart(t *testing.T) {
	for name, obj := range map[string]runtime.Object{"a tree": &unstructured.Unstructured{Object: map[string]any{"spec": 1}}, "a field that is not there": fullPod()} {
		if _, ok := Part(obj, Fields{Names: sets.New("bogus")}); ok {
			t.Errorf("%s has a part", name)
		}
	}
}
