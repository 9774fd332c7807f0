// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// mainManager is that of requests that don't reach status.
func mainManager(t *testing.T) *Manager {
	t.Helper()
	m, err := NewManager(ManagerConfig{
		Types: managedfields.NewDeducedTypeConverter(), Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Hub: corev1.SchemeGroupVersion,
		Convert: func(obj runtime.Object, _ schema.GroupVersion) (runtime.Object, error) {
			tree, ok := obj.(*unstructured.Unstructured)
			if !ok {
				return obj, nil
			}
			pod := &corev1.Pod{}
			return pod, runtime.DefaultUnstructuredConverter.FromUnstructured(tree.Object, pod)
		},
		New: func(schema.GroupVersionKind) (runtime.Object, error) { return newPod(), nil }, Default: func(runtime.Object) {},
		Reset: []fieldpath.Path{fieldpath.MakePathOrDie("status")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func apply(t *testing.T, m *Manager, live *corev1.Pod, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	applied := live.DeepCopy()
	applied.ManagedFields = nil
	change(applied)
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(applied)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Apply(live, &unstructured.Unstructured{Object: tree}, "applier", true)
	if err != nil {
		t.Fatal(err)
	}
	return out.(*corev1.Pod)
}

// Whoever applies what is there, status included, becomes its manager without changing anything: the record bears no time.
func TestApplyOfWhatIsThere(t *testing.T) {
	m := mainManager(t)
	live := fullPod()
	out := apply(t, m, live, func(*corev1.Pod) {})
	var own *metav1.ManagedFieldsEntry
	for i := range out.ManagedFields {
		if out.ManagedFields[i].Manager == "applier" {
			own = &out.ManagedFields[i]
		}
	}
	if own == nil || own.Time != nil {
		t.Errorf("the record of what was applied = %v, want one without a time", own)
	}
	if out.Status.Phase != corev1.PodRunning {
		t.Errorf("status = %v, want the live one", out.Status)
	}
}

// A status that is none is refused, although it would not be kept.
func TestApplyOfNoStatus(t *testing.T) {
	m := mainManager(t)
	applied := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}, "status": map[string]any{"startTime": "yesterday"},
	}}
	if out, err := m.Apply(fullPod(), applied, "applier", true); err == nil || !strings.Contains(err.Error(), "yesterday") {
		t.Errorf("Apply() = %v, %v, want an error that names the time", out, err)
	}
}

// Status stays what it was, whatever is applied.
func TestApplyLeavesStatusAlone(t *testing.T) {
	m := mainManager(t)
	live := fullPod()
	out := apply(t, m, live, func(p *corev1.Pod) {
		p.Spec.NodeName = "other"
		p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Message: "made up"}
	})
	if out.Spec.NodeName != "other" || out.Status.Phase != corev1.PodRunning || out.Status.Message != "" || len(out.Status.Conditions) != 1 {
		t.Errorf("applied: node %q, status %v", out.Spec.NodeName, out.Status)
	}
	for _, entry := range out.ManagedFields {
		if entry.Time == nil {
			t.Errorf("the record of what was applied, another status among it, has no time: %v", entry)
		}
	}
	if live.Status.Phase != corev1.PodRunning || live.Spec.NodeName != "n" {
		t.Errorf("the live object was changed: %v", live)
	}
}
