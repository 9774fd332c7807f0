// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"kogge.dev/kogge/internal/equal"
)

func podManager(t *testing.T) *Manager {
	t.Helper()
	m, err := NewManager(ManagerConfig{
		Types: managedfields.NewDeducedTypeConverter(), Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Hub: corev1.SchemeGroupVersion,
		Convert: func(obj runtime.Object, _ schema.GroupVersion) (runtime.Object, error) { return obj, nil },
		New:     func(schema.GroupVersionKind) (runtime.Object, error) { return newPod(), nil },
		Default: func(runtime.Object) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newPod() *corev1.Pod {
	return &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
}

func fullPod() *corev1.Pod {
	p := newPod()
	p.Name, p.UID, p.ResourceVersion = "one", "u", "1"
	p.Labels = map[string]string{"app": "web"}
	p.Spec = corev1.PodSpec{
		NodeName: "n", NodeSelector: map[string]string{"a": "b"}, RestartPolicy: corev1.RestartPolicyAlways, Overhead: corev1.ResourceList{"cpu": resource.MustParse("1")},
		Containers:      []corev1.Container{{Name: "a", Image: "a:1"}, {Name: "b", Image: "b:1"}},
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: new(int64(1))},
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: new(metav1.Unix(5, 0)), Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True"}}}
	return p
}

// Managed fields are recorded from what differs; they must be those that the whole objects give.
func TestUpdateRecordsWhatWholeObjectsGive(t *testing.T) {
	m := podManager(t)
	changes := map[string]func(*corev1.Pod){
		"nothing":             func(*corev1.Pod) {},
		"a label":             func(p *corev1.Pod) { p.Labels["tier"] = "front" },
		"a field less":        func(p *corev1.Pod) { p.Spec.NodeSelector = nil },
		"an empty map":        func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{} },
		"no containers":       func(p *corev1.Pod) { p.Spec.Containers = nil },
		"empty containers":    func(p *corev1.Pod) { p.Spec.Containers = []corev1.Container{} },
		"an image":            func(p *corev1.Pod) { p.Spec.Containers[1].Image = "b:2" },
		"another quantity":    func(p *corev1.Pod) { p.Spec.Overhead["cpu"] = resource.MustParse("2") },
		"the same amount":     func(p *corev1.Pod) { p.Spec.Overhead["cpu"] = resource.MustParse("1000m") },
		"a pointer":           func(p *corev1.Pod) { p.Spec.SecurityContext.RunAsUser = new(int64(2)) },
		"the same moment":     func(p *corev1.Pod) { p.Status.StartTime = new(metav1.NewTime(time.Unix(5, 0).UTC())) },
		"a later moment":      func(p *corev1.Pod) { p.Status.StartTime = new(metav1.Unix(6, 0)) },
		"all of status":       func(p *corev1.Pod) { p.Status = corev1.PodStatus{Phase: corev1.PodFailed} },
		"what it was read as": func(p *corev1.Pod) { p.ResourceVersion, p.Generation = "", 3 },
	}
	for name, change := range changes {
		for _, changer := range []string{"changer", "maker"} {
			t.Run(name+" by "+changer, func(t *testing.T) {
				live := fullPod()
				live.ManagedFields = m.fields.UpdateNoErrors(newPod(), fullPod(), "maker").(*corev1.Pod).ManagedFields
				obj := live.DeepCopy()
				change(obj)
				whole := m.fields.UpdateNoErrors(live.DeepCopy(), obj.DeepCopy(), changer).(*corev1.Pod)
				before := live.DeepCopy()
				got := m.Update(live, obj, changer).(*corev1.Pod)
				if g, w := entries(t, got.ManagedFields), entries(t, whole.ManagedFields); g != w {
					t.Errorf("managed fields\n%s\nwant\n%s", g, w)
				}
				made := live.ManagedFields[0].Time
				if g, w := got.ManagedFields[0].Time.Equal(made), whole.ManagedFields[0].Time.Equal(made); g != w {
					t.Errorf("the time is as it was: %v, want %v", g, w)
				}
				if got.ManagedFields = live.ManagedFields; !equal.Semantic(live, before) {
					t.Error("the live object was changed")
				}
				want := fullPod()
				change(want)
				want.ManagedFields = live.ManagedFields
				if !equal.Semantic(got, want) {
					t.Errorf("the object was changed: %v, want %v", got, want)
				}
			})
		}
	}
}

// entries renders managed fields without their times.
func entries(t *testing.T, fields []metav1.ManagedFieldsEntry) string {
	t.Helper()
	fields = slices.Clone(fields)
	for i := range fields {
		fields[i].Time = nil
	}
	text, err := json.MarshalIndent(fields, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPruneOfTrees(t *testing.T) {
	tree := func(text string) *unstructured.Unstructured {
		out := &unstructured.Unstructured{}
		if err := json.Unmarshal([]byte(text), &out.Object); err != nil {
			t.Fatal(err)
		}
		return out
	}
	a, b, ok := prune(
		tree(`{"kind":"A","metadata":{"name":"x"},"spec":{"a":1},"status":{"s":1},"gone":null}`),
		tree(`{"kind":"A","metadata":{"name":"x"},"spec":{"a":1},"status":{"s":2},"new":null}`),
	)
	if !ok {
		t.Fatal("not pruned")
	}
	left, _ := json.Marshal(a.(*unstructured.Unstructured).Object)
	right, _ := json.Marshal(b.(*unstructured.Unstructured).Object)
	const wantLeft, wantRight = `{"gone":null,"kind":"A","metadata":{"name":"x"},"status":{"s":1}}`, `{"kind":"A","metadata":{"name":"x"},"new":null,"status":{"s":2}}`
	if string(left) != wantLeft || string(right) != wantRight {
		t.Errorf("prune = %s and %s, want %s and %s", left, right, wantLeft, wantRight)
	}
	if _, _, ok := prune(tree(`{}`), &corev1.Pod{}); ok {
		t.Error("objects of two types were compared")
	}
}

func TestApplied(t *testing.T) {
	for _, tt := range []struct{ name, body, want, duplicates, err string }{
		{"JSON", `{"a":1,"b":[true,null,"x"]}`, `{"a":1,"b":[true,null,"x"]}`, "", ""},
		{"JSON with a key twice", `{"a":1,"a":2}`, `{"a":2}`, `key "a" already set in map`, ""},
		{"YAML", "a: 1\nb: {c: d}\n", `{"a":1,"b":{"c":"d"}}`, "", ""},
		{"YAML with a great number", "a: 9007199254740993\n", `{"a":9007199254740993}`, "", ""},
		{"YAML with a key twice", "a: 1\na: 2\n", `{"a":2}`, `key "a" already set in map`, ""},
		{"nothing", "null", `{}`, "", ""},
		{"no map", `[1]`, "", "", "error decoding YAML"},
		{"nonsense", "{", "", "", "error decoding YAML"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			obj, duplicates, err := Applied([]byte(tt.body))
			if !says(err, tt.err) || !says(duplicates, tt.duplicates) {
				t.Fatalf("Applied() = duplicates %v, error %v; want %q, %q", duplicates, err, tt.duplicates, tt.err)
			}
			if err != nil {
				return
			}
			if got, _ := json.Marshal(obj.Object); string(got) != tt.want {
				t.Errorf("Applied() = %s, want %s", got, tt.want)
			}
		})
	}
}

// TestAppliedNumbersKeepTheirKind: custom resources are judged by it.
func TestAppliedNumbersKeepTheirKind(t *testing.T) {
	for _, body := range []string{`{"whole":1,"part":1.5}`, "whole: 1\npart: 1.5\n", `{"whole":2,"whole":1,"part":1.5}`} {
		obj, _, err := Applied([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if obj.Object["whole"] != int64(1) || obj.Object["part"] != 1.5 {
			t.Errorf("Applied(%s) = %#v, want an integer and a float", body, obj.Object)
		}
	}
}

// says reports whether an error has the text; none has the empty one.
func says(err error, text string) bool {
	if text == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), text)
}
