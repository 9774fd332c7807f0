// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
)

// Derived holds what is made of all objects of some resources, and makes it anew after a change of one of them. Requests that need it so don't look
// at the objects.
type Derived[T any] struct {
	reader    Reader
	resources []schema.GroupResource
	build     func(objects [][]kinds.Object) T
	latest    atomic.Pointer[derivation[T]]
}

// derivation is immutable.
type derivation[T any] struct {
	// versions of the resources that value was made of, or of some before them.
	versions []uint64
	value    T
}

// Derive has build make something of the objects of resources, in their order. It may be called by many at once.
func Derive[T any](reader Reader, build func(objects [][]kinds.Object) T, resources ...schema.GroupResource) *Derived[T] {
	return &Derived[T]{reader: reader, resources: resources, build: build}
}

// Get returns what is made of the present objects.
func (d *Derived[T]) Get(ctx context.Context) (T, error) {
	if known := d.latest.Load(); known != nil && d.present(known) {
		return known.value, nil
	}
	next := &derivation[T]{versions: make([]uint64, len(d.resources))}
	objects := make([][]kinds.Object, len(d.resources))
	for i, gr := range d.resources {
		var err error
		if next.versions[i], err = d.reader.Version(gr); err == nil {
			objects[i], err = d.reader.List(ctx, gr, "")
		}
		if err != nil {
			return next.value, fmt.Errorf("list %s: %w", gr.Resource, err)
		}
	}
	next.value = d.build(objects)
	d.latest.Store(next)
	return next.value, nil
}

// present reports whether nothing has changed since known was made.
func (d *Derived[T]) present(known *derivation[T]) bool {
	for i, gr := range d.resources {
		if version, err := d.reader.Version(gr); err != nil || version != known.versions[i] {
			return false
		}
	}
	return true
}
