// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// OwnerKey returns the key of an object's controlling owner when it is of the given kind ("ReplicaSet").
func OwnerKey(obj metav1.Object, kind string) (Key, bool) {
	ref := metav1.GetControllerOf(obj)
	if ref == nil || ref.Kind != kind {
		return Key{}, false
	}
	return Key{Namespace: obj.GetNamespace(), Name: ref.Name}, true
}

// Dependents wakes a loop whose objects, of a kind, make and delete those of the informer, and tells its expectations what came and
// went; what is being deleted counts as gone. Objects that nobody controls wake those that adopters returns.
func Dependents[T kinds.Object](l *Loop, f *client.Informer[T], e *Expectations, kind string, adopters func(obj T) []Key) {
	gone := func(obj T) {
		if key, owned := OwnerKey(obj, kind); owned {
			e.Deleted(key, obj.GetUID())
			l.Enqueue(key)
			return
		}
		l.Enqueue(e.Gone(obj.GetUID())...) // adopted since it was seen last
	}
	seen := func(obj T) {
		if key, owned := OwnerKey(obj, kind); owned {
			l.Enqueue(key)
		} else if metav1.GetControllerOf(obj) == nil {
			l.Enqueue(adopters(obj)...)
		}
	}
	f.Handle(client.Handler[T]{
		Add: func(obj T) {
			if key, owned := OwnerKey(obj, kind); owned {
				e.Created(key) // be it that it goes already
			}
			if obj.GetDeletionTimestamp() != nil {
				gone(obj)
				return
			}
			seen(obj)
		},
		Update: func(old, obj T) {
			key, _ := OwnerKey(obj, kind)
			if oldKey, had := OwnerKey(old, kind); had && oldKey != key {
				l.Enqueue(oldKey)
			}
			if obj.GetDeletionTimestamp() != nil && old.GetDeletionTimestamp() == nil {
				gone(obj)
				return
			}
			seen(obj)
		},
		Delete: gone,
	})
}
