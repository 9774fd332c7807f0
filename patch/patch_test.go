// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/patch"
)

func TestDocument(t *testing.T) {
	const doc = `{"a":{"b":1,"c":[1,2]},"d":"e"}`
	tests := []struct {
		name, kind, patch, want string
		code                    int32
	}{
		{"merge sets and removes", string(types.MergePatchType), `{"a":{"b":null,"x":2}}`, `{"a":{"c":[1,2],"x":2},"d":"e"}`, 0},
		{"merge replaces lists", string(types.MergePatchType), `{"a":{"c":[3]}}`, `{"a":{"b":1,"c":[3]},"d":"e"}`, 0},
		{"merge of nonsense", string(types.MergePatchType), `{`, "", 400},
		{"operations in order", string(types.JSONPatchType), `[{"op":"add","path":"/a/c/-","value":3},{"op":"remove","path":"/d"}]`, `{"a":{"b":1,"c":[1,2,3]}}`, 0},
		{"a failed test", string(types.JSONPatchType), `[{"op":"test","path":"/d","value":"x"}]`, "", 422},
		{"a missing path", string(types.JSONPatchType), `[{"op":"remove","path":"/x"}]`, "", 422},
		{"no list", string(types.JSONPatchType), `{}`, "", 400},
		{"too many operations", string(types.JSONPatchType), "[" + strings.Repeat(`{"op":"test","path":"/d","value":"e"},`, 10_000) + `{"op":"test","path":"/d","value":"e"}]`, "", 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := patch.Document(types.PatchType(tt.kind), []byte(doc), []byte(tt.patch), nil)
			if code := codeOf(err); code != tt.code || code == 0 && string(got) != tt.want {
				t.Errorf("Document() = %s, %v; want %s, code %d", got, err, tt.want, tt.code)
			}
		})
	}
}

func codeOf(err error) int32 {
	if err == nil {
		return 0
	}
	if st, ok := err.(apierrors.APIStatus); ok {
		return st.Status().Code
	}
	return 500
}

func TestStrategic(t *testing.T) {
	old := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "1"}, {Name: "b", Image: "1"}}}}
	tests := []struct{ name, patch, want, strict string }{
		{"lists merge by key", `{"spec":{"containers":[{"name":"b","image":"2"}]}}`, "a=1 b=2", ""},
		{"elements are deleted", `{"spec":{"containers":[{"name":"a","$patch":"delete"}]}}`, "b=1", ""},
		{"lists are replaced", `{"spec":{"containers":[{"name":"c","image":"3"},{"$patch":"replace"}]}}`, "c=3", ""},
		{"unknown fields are found", `{"spec":{"bogus":1}}`, "a=1 b=1", `unknown field "spec.bogus"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, strict := &corev1.Pod{}, &patch.Strict{}
			if err := patch.Strategic(old, []byte(tt.patch), got, strict); err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, c := range got.Spec.Containers {
				have = append(have, c.Name+"="+c.Image)
			}
			found := ""
			for _, err := range strict.Errors {
				found += err.Error()
			}
			if strings.Join(have, " ") != tt.want || found != tt.strict {
				t.Errorf("containers %v, errors %q; want %s, %q", have, found, tt.want, tt.strict)
			}
		})
	}
	if err := patch.Strategic(old, []byte(`[]`), &corev1.Pod{}, nil); codeOf(err) != 400 {
		t.Errorf("a list as patch: %v, want 400", err)
	}
	if err := patch.Strategic(old, []byte(`{"spec":{"containers":[{"name":[]}]}}`), &corev1.Pod{}, nil); codeOf(err) != 422 {
		t.Errorf("a container whose name is a list: %v, want 422", err)
	}
}

func TestKeepTimes(t *testing.T) {
	at := func(minute int) *corev1.ConfigMap {
		when := metav1.NewTime(time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC))
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "m", Operation: metav1.ManagedFieldsOperationUpdate, Time: &when, FieldsV1: metav1.NewFieldsV1("{}"),
		}}}}
	}
	same := at(2)
	patch.KeepTimes(same, at(1))
	if got := same.ManagedFields[0].Time.Minute(); got != 1 {
		t.Errorf("an unchanged object is of minute %d, want 1", got)
	}
	changed := at(2)
	changed.Data = map[string]string{"a": "b"}
	patch.KeepTimes(changed, at(1))
	if got := changed.ManagedFields[0].Time.Minute(); got != 2 {
		t.Errorf("a changed object is of minute %d, want 2", got)
	}
}

func TestManagerName(t *testing.T) {
	for _, tt := range []struct{ named, agent, want string }{
		{"me", "kubectl/v1", "me"}, {"", "kubectl/v1.36.3 (linux/amd64)", "kubectl"}, {"", "", ""}, {"", "a\x00b/1", "ab"}, {"", strings.Repeat("x", 200), strings.Repeat("x", 128)},
	} {
		if got := patch.ManagerName(tt.named, tt.agent); got != tt.want {
			t.Errorf("ManagerName(%q, %q) = %q, want %q", tt.named, tt.agent, got, tt.want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add(string(types.JSONPatchType), []byte(`[{"op":"copy","from":"/a","path":"/b"}]`))
	f.Add(string(types.MergePatchType), []byte(`{"a":null}`))
	f.Fuzz(func(_ *testing.T, kind string, data []byte) {
		_, _ = patch.Document(types.PatchType(kind), []byte(`{"a":{"b":[1]}}`), data, &patch.Strict{}) // It must not panic.
	})
}

func FuzzStrategic(f *testing.F) {
	f.Add([]byte(`{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"a","$retainKeys":["name"]}]}}`))
	f.Add([]byte(`{"metadata":{"$deleteFromPrimitiveList/finalizers":["f"],"$setElementOrder/finalizers":["g","f"],"finalizers":["g"]}}`))
	f.Add([]byte(`{"spec":{"$retainKeys":["volumes"],"volumes":[{"name":"v","$retainKeys":["name","emptyDir"],"emptyDir":{}},{"$patch":"replace"}]}}`))
	f.Add([]byte(`{"spec":{"containers":[{"name":"a","$patch":"delete"},{"name":"b","ports":[{"containerPort":1,"protocol":"TCP"}]}],"nodeSelector":{"$patch":"replace"}}}`))
	old := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"f"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "1", Ports: []corev1.ContainerPort{{ContainerPort: 1}}}}, Volumes: []corev1.Volume{{Name: "v"}}},
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = patch.Strategic(old, data, &corev1.Pod{}, &patch.Strict{}) // It must not panic.
	})
}
