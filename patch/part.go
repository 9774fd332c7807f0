// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Fields are those of an object that a patch may read or change.
type Fields struct {
	// Names of top-level fields.
	Names sets.Set[string]
	// Managed is set when the record of managed fields may be among them: it is large, and few patches are about it.
	Managed bool
}

const (
	metadata      = "metadata"
	managedFields = "managedFields"
)

// Touched returns the fields that a patch may read or change. It returns ok false when that can't be told, or may be all of them.
func Touched(kind types.PatchType, patch []byte) (fields Fields, ok bool) {
	fields.Names = sets.New[string]()
	if kind == types.JSONPatchType {
		return touchedByOperations(fields, patch)
	}
	var document map[string]json.RawMessage
	if json.Unmarshal(patch, &document) != nil || document == nil {
		return Fields{}, false
	}
	for key, value := range document {
		if strings.HasPrefix(key, "$") {
			return Fields{}, false // a directive about the whole
		}
		fields.Names.Insert(key)
		if key == metadata {
			fields.Managed = touchesManaged(value)
		}
	}
	return fields, true
}

func touchesManaged(patch json.RawMessage) bool {
	var document map[string]json.RawMessage
	if json.Unmarshal(patch, &document) != nil || document == nil {
		return true
	}
	for key := range document {
		if key == managedFields || strings.HasPrefix(key, "$") {
			return true
		}
	}
	return false
}

func touchedByOperations(fields Fields, patch []byte) (Fields, bool) {
	var operations []Operation
	if json.Unmarshal(patch, &operations) != nil {
		return Fields{}, false
	}
	for _, o := range operations {
		paths := []string{o.Path}
		if o.Op == "move" || o.Op == "copy" {
			paths = append(paths, o.From)
		}
		for _, path := range paths {
			steps := strings.SplitN(path, "/", 4)
			if len(steps) < 2 || steps[0] != "" || steps[1] == "" || strings.Contains(steps[1], "~") {
				return Fields{}, false
			}
			fields.Names.Insert(steps[1])
			if steps[1] == metadata && (len(steps) == 2 || steps[2] == managedFields) {
				fields.Managed = true
			}
		}
	}
	return fields, true
}

// Part returns a shallow copy of an object of a Go type with only its type and the given fields, of which patching makes the same as of the
// whole. It returns ok false for other objects, and for fields that the type does not have.
func Part(obj runtime.Object, fields Fields) (part runtime.Object, ok bool) {
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	out := reflect.New(v.Type().Elem())
	found := 0
	for i := range v.Elem().NumField() {
		name, inline := jsonName(v.Type().Elem().Field(i))
		switch {
		case inline && v.Elem().Field(i).Type() != reflect.TypeFor[metav1.TypeMeta]():
			return nil, false
		case inline:
			out.Elem().Field(i).Set(v.Elem().Field(i))
			found += sets.New("apiVersion", "kind").Intersection(fields.Names).Len()
		case fields.Names.Has(name):
			out.Elem().Field(i).Set(v.Elem().Field(i))
			found++
		}
	}
	part, ok = reflect.TypeAssert[runtime.Object](out)
	if object, is := part.(metav1.Object); is && !fields.Managed {
		object.SetManagedFields(nil)
	}
	return part, ok && found == len(fields.Names)
}

// Complete gives patched, made of a Part with these fields, all else of obj: a copy, but for fields that it may share with obj.
func Complete(patched, obj runtime.Object, fields Fields, shared ...string) {
	into, from := reflect.ValueOf(patched).Elem(), reflect.ValueOf(obj).Elem()
	rest := reflect.New(from.Type()) // what is copied, not yet a copy
	each := func(visit func(i int, name string)) {
		for i := range from.NumField() {
			if name, inline := jsonName(from.Type().Field(i)); !inline {
				visit(i, name)
			}
		}
	}
	each(func(i int, name string) {
		if name == metadata || !fields.Names.Has(name) && !slices.Contains(shared, name) {
			rest.Elem().Field(i).Set(from.Field(i))
		}
	})
	copied := rest.Interface().(runtime.Object).DeepCopyObject()
	each(func(i int, name string) {
		switch {
		case fields.Names.Has(name):
		case slices.Contains(shared, name):
			into.Field(i).Set(from.Field(i))
		default:
			into.Field(i).Set(reflect.ValueOf(copied).Elem().Field(i))
		}
	})
	if object, is := patched.(metav1.Object); is && !fields.Managed {
		object.SetManagedFields(copied.(metav1.Object).GetManagedFields())
	}
}

func jsonName(f reflect.StructField) (name string, inline bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, name == "" && (f.Anonymous || strings.Contains(options, "inline"))
}
