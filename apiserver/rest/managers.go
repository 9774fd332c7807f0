// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/patch"
)

// managerSlot is a Manager made on first use.
type managerSlot struct {
	once    sync.Once
	manager *patch.Manager
	err     error
}

// manager returns the field manager for writes of a target through a subresource.
func (e *Engine) manager(t *Target, subresource string) (*patch.Manager, error) {
	v, ok := t.managers.Load(subresource)
	if !ok {
		v, _ = t.managers.LoadOrStore(subresource, new(managerSlot))
	}
	slot := v.(*managerSlot)
	slot.once.Do(func() { slot.manager, slot.err = e.newManager(t, subresource) })
	return slot.manager, slot.err
}

func (e *Engine) newManager(t *Target, subresource string) (*patch.Manager, error) {
	types, err := e.typesOf(t)
	if err != nil {
		return nil, err
	}
	return patch.NewManager(patch.ManagerConfig{
		Types: types, Kind: t.Served.GroupVersionKind, Hub: t.hub().GroupVersion(), Subresource: subresource, Custom: t.Custom != nil,
		Convert: t.convert,
		New: func(gvk schema.GroupVersionKind) (runtime.Object, error) {
			obj := t.Served.Blank()
			if served := t.Kind.Known(gvk.GroupVersion()); served != nil {
				obj = served.Blank()
			}
			obj.GetObjectKind().SetGroupVersionKind(gvk)
			return obj, nil
		},
		Default: t.defaults,
		Reset:   resetFields(t, subresource),
	})
}

// trackVirtual records who asked for what in an object that is answered and not stored. It returns obj, or a copy with managed fields.
func (e *Engine) trackVirtual(ctx context.Context, c *Call, obj runtime.Object) runtime.Object {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if c.Target.Custom != nil || gvk.Kind == "" {
		return obj
	}
	v, ok := c.Target.managers.Load("virtual " + c.Subresource)
	if !ok {
		v, _ = c.Target.managers.LoadOrStore("virtual "+c.Subresource, new(managerSlot))
	}
	slot := v.(*managerSlot)
	empty := func() runtime.Object {
		out := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(runtime.Object)
		out.GetObjectKind().SetGroupVersionKind(gvk)
		return out
	}
	slot.once.Do(func() {
		types, err := e.types()
		if err != nil {
			slot.err = err
			return
		}
		slot.manager, slot.err = patch.NewManager(patch.ManagerConfig{
			Types: types, Kind: gvk, Hub: gvk.GroupVersion(), Subresource: c.Subresource,
			Convert: func(in runtime.Object, _ schema.GroupVersion) (runtime.Object, error) { return in, nil },
			New:     func(schema.GroupVersionKind) (runtime.Object, error) { return empty(), nil },
			Default: func(runtime.Object) {},
		})
	})
	if slot.err != nil {
		e.log.Debug("no field manager", "resource", c.Target.GVR.String(), "err", slot.err)
		return obj
	}
	return slot.manager.Update(empty(), obj.DeepCopyObject(), patch.ManagerName(c.manager(), agentOf(ctx)))
}

func (e *Engine) typesOf(t *Target) (managedfields.TypeConverter, error) {
	if t.Custom == nil {
		return e.types()
	}
	return t.Custom.Types(t.Served.GroupVersion())
}

// resetFields are those that a write through the subresource can't change.
func resetFields(t *Target, subresource string) []fieldpath.Path {
	if listed, ok := t.Kind.Reset[subresource]; ok {
		var out []fieldpath.Path
		for _, path := range listed {
			var steps []any
			for step := range strings.SplitSeq(path, ".") {
				steps = append(steps, step)
			}
			out = append(out, fieldpath.MakePathOrDie(steps...))
		}
		return out
	}
	switch subresource {
	case "":
		if t.subresource("status") != nil {
			return []fieldpath.Path{fieldpath.MakePathOrDie("status")}
		}
		return nil
	case "status":
		if t.Custom != nil {
			return []fieldpath.Path{fieldpath.MakePathOrDie("metadata"), fieldpath.MakePathOrDie("spec")}
		}
		return []fieldpath.Path{fieldpath.MakePathOrDie("spec")}
	default:
		return nil
	}
}

// convert returns obj, typed or a tree, at a version of the target's kind. Objects that are there already are returned as they are.
func (t *Target) convert(in runtime.Object, gv schema.GroupVersion) (runtime.Object, error) {
	from := in.GetObjectKind().GroupVersionKind()
	obj, ok := in.(kinds.Object)
	if !ok {
		return nil, fmt.Errorf("convert a %T", in)
	}
	if tree, isTree := in.(*unstructured.Unstructured); isTree && t.Custom == nil {
		served := t.Kind.Known(from.GroupVersion())
		if served == nil {
			return nil, runtime.NewNotRegisteredErrForKind(t.Kind.Resource, from)
		}
		typed := served.Blank()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree.Object, typed); err != nil {
			return nil, fmt.Errorf("unable to convert unstructured object to %v: %w", from, err)
		}
		obj = typed
	}
	if from.GroupVersion() == gv {
		return obj, nil
	}
	if t.Custom != nil {
		return t.Kind.Convert(obj, gv)
	}
	if from.GroupVersion() != t.Kind.Storage.GroupVersion() {
		served := t.Kind.Known(from.GroupVersion())
		if served == nil {
			return nil, runtime.NewNotRegisteredErrForKind(t.Kind.Resource, from)
		}
		if served.ToStorage != nil {
			converted, err := served.ToStorage(obj)
			if err != nil {
				return nil, err
			}
			obj = converted
		} else {
			obj = obj.DeepCopyObject().(kinds.Object)
		}
		obj.GetObjectKind().SetGroupVersionKind(t.Kind.Storage.GroupVersionKind)
	}
	if gv == t.Kind.Storage.GroupVersion() {
		return obj, nil
	}
	served := t.Kind.Known(gv)
	if served == nil {
		return nil, runtime.NewNotRegisteredErrForKind(t.Kind.Resource, gv.WithKind(from.Kind))
	}
	if served.FromStorage != nil {
		converted, err := served.FromStorage(obj)
		if err != nil {
			return nil, err
		}
		obj = converted
	} else {
		obj = obj.DeepCopyObject().(kinds.Object)
	}
	obj.GetObjectKind().SetGroupVersionKind(served.GroupVersionKind)
	return obj, nil
}

// defaults fills unset fields of an object at any version.
func (t *Target) defaults(in runtime.Object) {
	obj, ok := in.(kinds.Object)
	if !ok {
		return
	}
	gv := in.GetObjectKind().GroupVersionKind().GroupVersion()
	if u, ok := in.(*unstructured.Unstructured); ok && t.Custom != nil {
		_, _ = t.Custom.Complete(gv, u) // Validation names what is wrong.
		return
	}
	if served := t.Kind.Known(gv); served != nil && served.Default != nil {
		served.Default(obj)
	}
	if gv == t.Kind.Storage.GroupVersion() && t.Kind.Default != nil {
		t.Kind.Default(obj)
	}
}

// Types returns the type converter of a served resource, for whoever else merges apply configurations.
func (e *Engine) Types(gvr schema.GroupVersionResource) (managedfields.TypeConverter, error) {
	t := e.Lookup(gvr)
	if t == nil {
		return nil, runtime.NewNotRegisteredErrForKind(gvr.Resource, gvr.GroupVersion().WithKind(gvr.Resource))
	}
	return e.typesOf(t)
}
