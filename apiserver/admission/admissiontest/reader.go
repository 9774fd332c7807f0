// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package admissiontest gives tests of plugins and authorizers a cluster in a map.
package admissiontest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// Reader is a cluster in a map. Lists come in the order of namespace and name, as from a watch cache.
type Reader struct {
	catalog *catalog.Catalog

	mu      sync.Mutex
	objects map[schema.GroupResource]map[string]kinds.Object
	// fresh holds what only linearizable reads see.
	fresh map[schema.GroupResource]map[string]kinds.Object
	// changes of objects, of all resources.
	changes uint64
}

var _ admission.Reader = (*Reader)(nil)

// NewReader makes a cluster of the given objects of built-in kinds.
func NewReader(objects ...kinds.Object) *Reader {
	r := &Reader{catalog: catalog.New(), objects: map[schema.GroupResource]map[string]kinds.Object{}, fresh: map[schema.GroupResource]map[string]kinds.Object{}}
	r.Put(objects...)
	return r
}

// Put adds or replaces objects.
func (r *Reader) Put(objects ...kinds.Object) {
	for _, obj := range objects {
		r.store(r.objects, obj)
	}
}

// PutFresh adds objects that the cache has not seen yet.
func (r *Reader) PutFresh(objects ...kinds.Object) {
	for _, obj := range objects {
		r.store(r.fresh, obj)
	}
}

// Delete removes objects.
func (r *Reader) Delete(objects ...kinds.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	for _, obj := range objects {
		delete(r.objects[r.resource(obj)], key(obj.GetNamespace(), obj.GetName()))
	}
}

func (r *Reader) resource(obj kinds.Object) schema.GroupResource {
	kind, served := r.catalog.ByType(obj)
	if kind == nil {
		panic(fmt.Sprintf("admissiontest: %v is not a built-in kind", reflect.TypeOf(obj)))
	}
	return schema.GroupResource{Group: served.Group, Resource: kind.Resource}
}

func (r *Reader) store(in map[schema.GroupResource]map[string]kinds.Object, obj kinds.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	gr := r.resource(obj)
	if in[gr] == nil {
		in[gr] = map[string]kinds.Object{}
	}
	in[gr][key(obj.GetNamespace(), obj.GetName())] = obj
}

func key(namespace, name string) string { return namespace + "/" + name }

// Get implements admission.Reader.
func (r *Reader) Get(_ context.Context, gr schema.GroupResource, namespace, name string) (kinds.Object, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if obj, ok := r.objects[gr][key(namespace, name)]; ok {
		return obj, nil
	}
	return nil, nil // the contract: absence is no error
}

// GetFresh implements admission.Reader.
func (r *Reader) GetFresh(ctx context.Context, gr schema.GroupResource, namespace, name string) (kinds.Object, error) {
	r.mu.Lock()
	obj, ok := r.fresh[gr][key(namespace, name)]
	r.mu.Unlock()
	if ok {
		return obj, nil
	}
	return r.Get(ctx, gr, namespace, name)
}

// List implements admission.Reader.
func (r *Reader) List(_ context.Context, gr schema.GroupResource, namespace string) ([]kinds.Object, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []kinds.Object
	for _, obj := range r.objects[gr] {
		if namespace == "" || obj.GetNamespace() == namespace {
			out = append(out, obj)
		}
	}
	slices.SortFunc(out, func(a, b kinds.Object) int {
		return strings.Compare(key(a.GetNamespace(), a.GetName()), key(b.GetNamespace(), b.GetName()))
	})
	return out, nil
}

// Version implements admission.Reader. It is that of all resources.
func (r *Reader) Version(schema.GroupResource) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes, nil
}
