// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/kinds"
)

// meddling is a reader of a cluster that changes whenever it has been listed.
type meddling struct {
	*admissiontest.Reader
	change func()
}

func (m meddling) List(ctx context.Context, gr schema.GroupResource, namespace string) ([]kinds.Object, error) {
	defer m.change()
	return m.Reader.List(ctx, gr, namespace)
}

// broken is a reader of which nothing can be had.
type broken struct{ admission.Reader }

func (broken) Version(schema.GroupResource) (uint64, error) { return 0, errors.New("not ready") }

// TestDerivedFollowsChanges derives the number of objects of two resources.
func TestDerivedFollowsChanges(t *testing.T) {
	resources := []schema.GroupResource{{Resource: "nodes"}, {Resource: "namespaces"}}
	node := func(name string) kinds.Object { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	reader := admissiontest.NewReader(node("a"))
	var derived admission.Derived[[2]int]
	built := 0
	count := func(objects [][]kinds.Object) [2]int {
		built++
		return [2]int{len(objects[0]), len(objects[1])}
	}
	check := func(what string, from admission.Reader, want [2]int, builds int) {
		t.Helper()
		got, err := derived.Of(t.Context(), from, resources, count)
		if err != nil || got != want || built != builds {
			t.Errorf("Of() %s = %v, %v, built %d times; want %v, built %d times", what, got, err, built, want, builds)
		}
	}
	check("at first", reader, [2]int{1, 0}, 1)
	check("after no change", reader, [2]int{1, 0}, 1)
	reader.Put(space)
	check("after one of the second resource", reader, [2]int{1, 1}, 2)
	reader.Delete(node("a"))
	check("after one of the first", reader, [2]int{0, 1}, 3)
	reader.Put(node("b"))
	once := true
	check("while another one is made", meddling{reader, func() {
		if once {
			once = false
			reader.Put(node("c"))
		}
	}}, [2]int{1, 1}, 4)
	check("after that", reader, [2]int{2, 1}, 5)
	if _, err := derived.Of(t.Context(), broken{reader}, resources, count); err == nil {
		t.Error("Of() of what can't be read = nil error")
	}
	check("of what can be read again", reader, [2]int{2, 1}, 5)
}
