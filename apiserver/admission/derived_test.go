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

// meddled is a reader with which something happens after each list, and of which nothing can be had while it is broken.
type meddled struct {
	*admissiontest.Reader

	listed func()
	broken error
}

func (m *meddled) List(ctx context.Context, gr schema.GroupResource, namespace string) ([]kinds.Object, error) {
	defer m.listed()
	return m.Reader.List(ctx, gr, namespace)
}

func (m *meddled) Version(gr schema.GroupResource) (uint64, error) {
	version, err := m.Reader.Version(gr)
	return version, errors.Join(err, m.broken)
}

// TestDerivedFollowsChanges derives the number of objects of two resources.
func TestDerivedFollowsChanges(t *testing.T) {
	node := func(name string) kinds.Object { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	reader := &meddled{Reader: admissiontest.NewReader(node("a")), listed: func() {}}
	built := 0
	derived := admission.Derive(reader, func(objects [][]kinds.Object) [2]int {
		built++
		return [2]int{len(objects[0]), len(objects[1])}
	}, schema.GroupResource{Resource: "nodes"}, schema.GroupResource{Resource: "namespaces"})
	check := func(what string, want [2]int, builds int) {
		t.Helper()
		got, err := derived.Get(t.Context())
		if err != nil || got != want || built != builds {
			t.Errorf("Get() %s = %v, %v, built %d times; want %v, built %d times", what, got, err, built, want, builds)
		}
	}
	check("at first", [2]int{1, 0}, 1)
	check("after no change", [2]int{1, 0}, 1)
	reader.Put(space)
	check("after one of the second resource", [2]int{1, 1}, 2)
	reader.Delete(node("a"))
	check("after one of the first", [2]int{0, 1}, 3)
	reader.Put(node("b"))
	reader.listed = func() {
		reader.listed = func() {}
		reader.Put(node("c"))
	}
	check("while another one is made", [2]int{1, 1}, 4)
	check("after that", [2]int{2, 1}, 5)
	reader.broken = errors.New("not ready")
	if _, err := derived.Get(t.Context()); !errors.Is(err, reader.broken) {
		t.Errorf("Get() of what can't be read: %v, want %v", err, reader.broken)
	}
	reader.broken = nil
	check("of what can be read again", [2]int{2, 1}, 5)
}
