// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// atomicPaths returns the paths of atomic lists, maps and structs in an apply configuration. Setting those would drop what the
// expression does not name, which is hardly ever what its author meant.
func atomicPaths(v *typed.TypedValue) []string {
	w := atomicWalk{schema: v.Schema()}
	w.visit(nil, v.TypeRef(), v.AsValue())
	return w.found
}

type atomicWalk struct {
	schema *schema.Schema
	found  []string
}

func (w *atomicWalk) visit(path fieldpath.Path, ref schema.TypeRef, v value.Value) {
	atom, ok := w.schema.Resolve(ref)
	if !ok {
		return
	}
	switch {
	case v.IsMap() && atom.Map != nil:
		if atom.Map.ElementRelationship == schema.Atomic {
			w.found = append(w.found, path.String())
		}
		v.AsMap().Iterate(func(key string, child value.Value) bool {
			next := atom.Map.ElementType
			if f, ok := atom.FindField(key); ok {
				next = f.Type
			}
			w.visit(append(path.Copy(), fieldpath.PathElement{FieldName: &key}), next, child)
			return true
		})
	case v.IsList() && atom.List != nil:
		if atom.List.ElementRelationship == schema.Atomic {
			w.found = append(w.found, path.String())
		}
		list := v.AsList()
		for i := range list.Length() {
			w.visit(append(path.Copy(), fieldpath.PathElement{Index: &i}), atom.List.ElementType, list.At(i))
		}
	}
}
