// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package versions shows objects to webhooks and policies in the version that they ask for, and takes changed ones back.
package versions

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
)

// Converter converts between what admission sees (the storage type of a kind, or a custom object at the version of the request) and the wire.
type Converter struct {
	// Lookup returns the descriptor of a resource, built-in or custom; nil for unknown ones. Required.
	Lookup func(gr schema.GroupResource) *kinds.Kind
	// ByKind returns the descriptor of a kind at a served version, for what policies take as parameters. Required for policies with parameters.
	ByKind func(gvk schema.GroupVersionKind) *kinds.Kind
	// Complete prunes and defaults a custom object of a version that a webhook or policy changed. Optional.
	Complete func(gvr schema.GroupVersionResource, obj *unstructured.Unstructured) error
}

// Equivalent is another address of the same objects.
type Equivalent struct {
	Resource schema.GroupVersionResource
	Kind     schema.GroupVersionKind
}

// Equivalents returns all versions under which a resource is served, the given one excluded.
func (c *Converter) Equivalents(gvr schema.GroupVersionResource) []Equivalent {
	k := c.Lookup(gvr.GroupResource())
	if k == nil {
		return nil
	}
	var out []Equivalent
	for i := range k.Served {
		r := k.Served[i].GroupVersion().WithResource(k.Resource)
		if r != gvr {
			out = append(out, Equivalent{Resource: r, Kind: k.Served[i].GroupVersionKind})
		}
	}
	return out
}

// ToVersion returns a fresh object of the given kind with apiVersion and kind set. Objects that are not of the resource's own type (scale, eviction,
// connect options) keep their type and get their kind. Nil stays nil.
func (c *Converter) ToVersion(obj runtime.Object, gr schema.GroupResource, kind schema.GroupVersionKind) (runtime.Object, error) {
	if isNil(obj) {
		return nil, nil // nothing to convert
	}
	k := c.Lookup(gr)
	if u, ok := obj.(*unstructured.Unstructured); ok && k != nil && u.GetKind() == k.Storage.Kind {
		out, err := k.Convert(u, kind.GroupVersion())
		if err != nil {
			return nil, fmt.Errorf("convert to %s: %w", kind, err)
		}
		if out == u {
			out = u.DeepCopy()
		}
		return out, nil
	}
	if k != nil && sameType(obj, k.Storage.Blank()) {
		for i := range k.Served {
			s := &k.Served[i]
			if s.GroupVersionKind == kind && s.FromStorage != nil {
				out, err := s.FromStorage(obj.(kinds.Object))
				if err != nil {
					return nil, fmt.Errorf("convert to %s: %w", kind, err)
				}
				out.GetObjectKind().SetGroupVersionKind(kind)
				return out, nil
			}
		}
	}
	out := obj.DeepCopyObject()
	out.GetObjectKind().SetGroupVersionKind(kind)
	return out, nil
}

// Apply decodes data, which is of the given kind, into obj, which is what admission sees: defaults are applied and the version converted.
// obj keeps its identity, so that everybody who holds it sees the change. Under codec.Strict unknown and duplicate fields are an error.
func (c *Converter) Apply(data []byte, gvr schema.GroupVersionResource, kind schema.GroupVersionKind, obj runtime.Object, mode codec.Strictness) error {
	fresh, err := c.decode(data, gvr, kind, obj, mode)
	if err != nil {
		return err
	}
	if !sameType(fresh, obj) {
		return fmt.Errorf("changed object is a %T, not a %T", fresh, obj)
	}
	reflect.ValueOf(obj).Elem().Set(reflect.ValueOf(fresh).Elem())
	return nil
}

func (c *Converter) decode(data []byte, gvr schema.GroupVersionResource, kind schema.GroupVersionKind, like runtime.Object, mode codec.Strictness) (runtime.Object, error) {
	k := c.Lookup(gvr.GroupResource())
	if k == nil || !sameType(like, k.Storage.Blank()) {
		out := reflect.New(reflect.TypeOf(like).Elem()).Interface().(runtime.Object)
		return out, decodeAs(data, kind, out, mode)
	}
	var served *kinds.Served
	for i := range k.Served {
		if k.Served[i].GroupVersionKind == kind {
			served = &k.Served[i]
		}
	}
	if served == nil {
		return nil, fmt.Errorf("kind %s is not served", kind)
	}
	out := served.Blank()
	if err := decodeAs(data, kind, out, mode); err != nil {
		return nil, err
	}
	if u, ok := out.(*unstructured.Unstructured); ok {
		if c.Complete != nil {
			if err := c.Complete(gvr, u); err != nil {
				return nil, err
			}
		}
		back, err := k.Convert(u, like.GetObjectKind().GroupVersionKind().GroupVersion())
		if err != nil {
			return nil, fmt.Errorf("convert from %s: %w", kind, err)
		}
		return back, nil
	}
	if served.Default != nil {
		served.Default(out)
	}
	if served.ToStorage != nil {
		var err error
		if out, err = served.ToStorage(out); err != nil {
			return nil, fmt.Errorf("convert from %s: %w", kind, err)
		}
	}
	if k.Default != nil {
		k.Default(out)
	}
	return out, nil
}

// decodeAs decodes what must be of a kind.
func decodeAs(data []byte, kind schema.GroupVersionKind, out runtime.Object, mode codec.Strictness) error {
	got, unknown, err := codec.Decode(data, codec.JSON, out, mode, kind)
	switch {
	case err != nil:
		return err
	case got != kind:
		return fmt.Errorf("changed object is a %s, not a %s", got, kind)
	case len(unknown) > 0:
		return runtime.NewStrictDecodingError(unknown)
	}
	return nil
}

func sameType(a, b runtime.Object) bool { return reflect.TypeOf(a) == reflect.TypeOf(b) }

func isNil(obj runtime.Object) bool {
	if obj == nil {
		return true
	}
	v := reflect.ValueOf(obj)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
