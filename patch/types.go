// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"fmt"
	"maps"
	"reflect"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// converter is a type converter that leaves out work whose result nobody looks at. Objects of Go types need no check against the
// schema that was made of these types. Of stored objects it leaves out the record of managed fields, which nobody manages, and status
// where requests don't reach it. And of an object that the library asks for only to learn its version, it makes nothing but that.
type converter struct {
	managedfields.TypeConverter
	// noStatus says that requests don't reach status.
	noStatus bool
	schemas  sync.Map // schemaOf by schema.GroupVersionKind
}

// schemaOf a kind.
type schemaOf struct {
	schema  *smd.Schema
	typeRef smd.TypeRef
}

// ObjectToTyped implements managedfields.TypeConverter.
func (c *converter) ObjectToTyped(obj runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if tree, ok := obj.(*unstructured.Unstructured); ok {
		if len(options) == 0 {
			return c.TypeConverter.ObjectToTyped(tree) // an applied configuration, all of which is checked
		}
		return c.TypeConverter.ObjectToTyped(c.bareTree(tree), options...)
	}
	of, err := c.schemaOf(obj.GetObjectKind().GroupVersionKind())
	if err != nil {
		return nil, err
	}
	v, err := value.NewValueReflect(c.bare(obj))
	if err != nil {
		return nil, fmt.Errorf("read a %T as a tree: %w", obj, err)
	}
	return typed.AsTypedUnvalidated(v, of.schema, of.typeRef), nil //nolint:staticcheck // checking a Go type against its own schema is still a tenth of a write
}

func (c *converter) schemaOf(gvk schema.GroupVersionKind) (schemaOf, error) {
	known, ok := c.schemas.Load(gvk)
	if !ok {
		empty := &unstructured.Unstructured{}
		empty.SetGroupVersionKind(gvk)
		v, err := c.TypeConverter.ObjectToTyped(empty)
		if err != nil {
			return schemaOf{}, err
		}
		known, _ = c.schemas.LoadOrStore(gvk, schemaOf{schema: v.Schema(), typeRef: v.TypeRef()})
	}
	return known.(schemaOf), nil
}

// bare returns a shallow copy of an object of a Go type, without what does not matter.
func (c *converter) bare(obj runtime.Object) runtime.Object {
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return obj
	}
	out := reflect.New(v.Type().Elem())
	out.Elem().Set(v.Elem())
	if object, ok := reflect.TypeAssert[metav1.Object](out); ok {
		object.SetManagedFields(nil)
	}
	if c.noStatus {
		if status := out.Elem().FieldByName(statusField); status.IsValid() {
			status.SetZero()
		}
	}
	return out.Interface().(runtime.Object)
}

// bareTree is bare for trees.
func (c *converter) bareTree(obj *unstructured.Unstructured) *unstructured.Unstructured {
	out := maps.Clone(obj.Object)
	if metadata, ok := out["metadata"].(map[string]any); ok && metadata["managedFields"] != nil {
		metadata = maps.Clone(metadata)
		delete(metadata, "managedFields")
		out["metadata"] = metadata
	}
	if c.noStatus {
		delete(out, "status")
	}
	return &unstructured.Unstructured{Object: out}
}

// statusField is how Go types name status.
const statusField = "Status"

// keepStatus gives obj the status of live, which was left out of it.
func keepStatus(obj, live runtime.Object) {
	tree, ok := obj.(*unstructured.Unstructured)
	from, both := live.(*unstructured.Unstructured)
	if ok && both {
		delete(tree.Object, "status")
		if status, has := from.Object["status"]; has {
			tree.Object["status"] = runtime.DeepCopyJSONValue(status)
		}
		return
	}
	into, of := reflect.Indirect(reflect.ValueOf(obj)), reflect.Indirect(reflect.ValueOf(live.DeepCopyObject()))
	if into.Type() != of.Type() || into.Kind() != reflect.Struct {
		return
	}
	if status := into.FieldByName(statusField); status.IsValid() {
		status.Set(of.FieldByName(statusField))
	}
}

// TypedToObject implements managedfields.TypeConverter.
func (c *converter) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	return &pending{types: c.TypeConverter, value: v}, nil
}

// pending is an object that is made when it is needed. Its kind is known before.
type pending struct {
	types managedfields.TypeConverter
	value *typed.TypedValue
}

// object makes the object.
func (p *pending) object() (runtime.Object, error) { return p.types.TypedToObject(p.value) }

// GetObjectKind implements runtime.Object.
func (p *pending) GetObjectKind() schema.ObjectKind { return p }

// SetGroupVersionKind implements schema.ObjectKind. A pending object is what its value says; nothing sets another kind.
func (p *pending) SetGroupVersionKind(schema.GroupVersionKind) {}

// GroupVersionKind implements schema.ObjectKind.
func (p *pending) GroupVersionKind() schema.GroupVersionKind {
	v := p.value.AsValue()
	if !v.IsMap() {
		return schema.GroupVersionKind{}
	}
	m := v.AsMap()
	return schema.FromAPIVersionAndKind(text(m, "apiVersion"), text(m, "kind"))
}

func text(m value.Map, key string) string {
	if v, ok := m.Get(key); ok && v.IsString() {
		return v.AsString()
	}
	return ""
}

// DeepCopyObject implements runtime.Object.
func (p *pending) DeepCopyObject() runtime.Object {
	obj, err := p.object()
	if err != nil {
		return &unstructured.Unstructured{}
	}
	return obj
}

// made returns the object itself, where it is pending.
func made(obj runtime.Object) (runtime.Object, error) {
	p, ok := obj.(*pending)
	if !ok {
		return obj, nil
	}
	out, err := p.object()
	if err != nil {
		return nil, fmt.Errorf("make an object of what was merged: %w", err)
	}
	return out, nil
}
