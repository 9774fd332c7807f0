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

// Derived holds what was made of all objects of some resources, and makes it anew after a change of one of them. Requests that need it so don't look
// at the objects. The zero value is ready for use.
type Derived[T any] struct{ latest atomic.Pointer[derivation[T]] }

// derivation is immutable.
type derivation[T any] struct {
	// versions of the resources that value was made of, or of some before them.
	versions []uint64
	value    T
}

// Of returns what build makes of the present objects of resources, which are always the same ones. It may be called at once by many; build then may be, too.
func (d *Derived[T]) Of(ctx context.Context, from Reader, resources []schema.GroupResource, build func(objects [][]kinds.Object) T) (T, error) {
	known := d.latest.Load()
	present := known != nil
	for i := 0; present && i < len(resources); i++ {
		version, err := from.Version(resources[i])
		present = err == nil && version == known.versions[i]
	}
	if present {
		return known.value, nil
	}
	next := &derivation[T]{versions: make([]uint64, len(resources))}
	objects := make([][]kinds.Object, len(resources))
	for i, gr := range resources {
		var err error
		if next.versions[i], err = from.Version(gr); err == nil {
			objects[i], err = from.List(ctx, gr, "")
		}
		if err != nil {
			return next.value, fmt.Errorf("list %s: %w", gr.Resource, err)
		}
	}
	next.value = build(objects)
	d.latest.Store(next)
	return next.value, nil
}
