// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/controllers/garbage/graph"
)

// object has its name as its UID.
func object(name string, owners ...string) *metav1.ObjectMeta {
	obj := &metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}
	for _, owner := range owners {
		obj.OwnerReferences = append(obj.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: owner, UID: types.UID(owner)})
	}
	return obj
}

func identity(obj *metav1.ObjectMeta) graph.Identity {
	return graph.Identity{APIVersion: "v1", Kind: "Pod", Namespace: obj.Namespace, Name: obj.Name, UID: obj.UID}
}

// finalized is an object that is being deleted and waits for a finalizer.
func finalized(obj *metav1.ObjectMeta, finalizer string) *metav1.ObjectMeta {
	obj.DeletionTimestamp, obj.Finalizers = &metav1.Time{}, []string{finalizer}
	return obj
}

func want(t *testing.T, what string, got []types.UID, names ...types.UID) {
	t.Helper()
	slices.Sort(got)
	if !slices.Equal(got, names) {
		t.Errorf("%s: to be looked at are %v; want %v", what, got, names)
	}
}

// TestWork follows one owner and its dependents through what may happen to them.
func TestWork(t *testing.T) {
	var g graph.Graph
	observe := func(obj *metav1.ObjectMeta) graph.Work { return g.Observe(identity(obj), obj) }
	want(t, "owner not seen yet", observe(object("a", "owner")).Examine, "owner")
	want(t, "second dependent", observe(object("b", "owner")).Examine)
	want(t, "owner seen", observe(object("owner")).Examine)
	want(t, "orphaning owner", observe(finalized(object("owner"), metav1.FinalizerOrphanDependents)).Release, "owner")
	want(t, "waiting owner", observe(finalized(object("owner"), metav1.FinalizerDeleteDependents)).Examine, "a", "b", "owner")
	want(t, "dependent of a waiting owner", observe(object("c", "owner")).Examine, "c")
	want(t, "dependent gone", g.Remove("c").Examine, "owner")
	want(t, "owner gone", g.Remove("owner").Examine, "a", "b")
	want(t, "dependent of an owner that is gone", observe(object("d", "owner")).Examine, "d")
	for _, name := range []types.UID{"a", "b", "d"} {
		want(t, "dependent gone", g.Remove(name).Examine)
	}
	if g.Len() != 0 {
		t.Errorf("%d nodes are left; want none", g.Len())
	}
}
