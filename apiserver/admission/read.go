// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
)

// Get reads one object of a known type from the watch cache. found is false, without an error, when it is not there.
func Get[T kinds.Object](ctx context.Context, r Reader, gr schema.GroupResource, namespace, name string) (obj T, found bool, err error) {
	return typed[T](gr, namespace, name)(r.Get(ctx, gr, namespace, name))
}

// GetFresh is Get with a linearizable read, for decisions that must not rest on a stale absence.
func GetFresh[T kinds.Object](ctx context.Context, r Reader, gr schema.GroupResource, namespace, name string) (obj T, found bool, err error) {
	return typed[T](gr, namespace, name)(r.GetFresh(ctx, gr, namespace, name))
}

// GetAny asks the cache first and the store when the cache has nothing: an object that was just made is found.
func GetAny[T kinds.Object](ctx context.Context, r Reader, gr schema.GroupResource, namespace, name string) (obj T, found bool, err error) {
	obj, found, err = Get[T](ctx, r, gr, namespace, name)
	if err == nil && !found {
		return GetFresh[T](ctx, r, gr, namespace, name)
	}
	return obj, found, err
}

// List reads all objects of a known type in a namespace, or in all when it is empty.
func List[T kinds.Object](ctx context.Context, r Reader, gr schema.GroupResource, namespace string) ([]T, error) {
	items, err := r.List(ctx, gr, namespace)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", gr, err)
	}
	out := make([]T, 0, len(items))
	for _, item := range items {
		if obj, ok := item.(T); ok {
			out = append(out, obj)
		}
	}
	return out, nil
}

func typed[T kinds.Object](gr schema.GroupResource, namespace, name string) func(kinds.Object, error) (T, bool, error) {
	return func(got kinds.Object, err error) (T, bool, error) {
		var zero T
		if apierrors.IsNotFound(err) || err == nil && got == nil {
			return zero, false, nil
		}
		if err != nil {
			return zero, false, fmt.Errorf("get %s %s/%s: %w", gr, namespace, name, err)
		}
		obj, ok := got.(T)
		if !ok {
			return zero, false, fmt.Errorf("get %s %s/%s: found a %T, not a %T", gr, namespace, name, got, zero)
		}
		return obj, true, nil
	}
}

// Object returns the new object as a type, or false when it is another one (a subresource's, an unstructured one).
func Object[T kinds.Object](a *Attributes) (T, bool) {
	obj, ok := a.Object.(T)
	return obj, ok
}

// Old returns the stored object as a type.
func Old[T kinds.Object](a *Attributes) (T, bool) {
	obj, ok := a.Old.(T)
	return obj, ok
}

// Is reports whether the question is about a resource and one of the named subresources; without names, about
// the resource itself.
func (a *Attributes) Is(group, resource string, subresources ...string) bool {
	if a.Resource.Group != group || a.Resource.Resource != resource {
		return false
	}
	if len(subresources) == 0 {
		return a.Subresource == ""
	}
	return slices.Contains(subresources, a.Subresource)
}
