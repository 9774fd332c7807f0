// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	_ "embed"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

//go:embed types.json.gz
var packedTypes []byte

// applyTypes are the types of the built-in kinds for server-side apply.
type applyTypes struct {
	schema smd.Schema
	kinds  map[schema.GroupVersionKind]typed.ParseableType
}

// ObjectToTyped implements managedfields.TypeConverter.
func (a *applyTypes) ObjectToTyped(obj runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	t, ok := a.kinds[gvk]
	if !ok {
		return nil, runtime.NewNotRegisteredErrForKind("server-side apply", gvk)
	}
	if tree, ok := obj.(*unstructured.Unstructured); ok {
		return t.FromUnstructured(tree.Object, options...)
	}
	return t.FromStructured(obj, options...)
}

// TypedToObject implements managedfields.TypeConverter.
func (*applyTypes) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	tree, ok := v.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("a %T is no object", v.AsValue().Unstructured())
	}
	return &unstructured.Unstructured{Object: tree}, nil
}

// The content of types.json.gz, as tools/openapi writes it: the names are short because there are thousands of them.
type (
	typeSet struct {
		Kinds [][4]string `json:"kinds"` // group, version, kind, type
		Types []namedType `json:"types"`
	}
	namedType struct {
		Name string `json:"n"`
		atom
	}
	atom struct {
		Scalar *smd.Scalar `json:"s"`
		List   *listType   `json:"l"`
		Map    *mapType    `json:"m"`
	}
	reference struct {
		Named *string `json:"t"`
		atom
		Relationship *smd.ElementRelationship `json:"r"`
	}
	listType struct {
		Element      reference               `json:"e"`
		Relationship smd.ElementRelationship `json:"r"`
		Keys         []string                `json:"k"`
	}
	mapType struct {
		Fields       []fieldType             `json:"f"`
		Element      reference               `json:"e"`
		Relationship smd.ElementRelationship `json:"r"`
	}
	fieldType struct {
		Name string `json:"n"`
		reference
		Default any `json:"d"`
	}
)

func readTypes() (managedfields.TypeConverter, error) {
	var set typeSet
	if err := unpack(packedTypes, &set); err != nil {
		return nil, fmt.Errorf("types for server-side apply: %w", err)
	}
	out := &applyTypes{kinds: make(map[schema.GroupVersionKind]typed.ParseableType, len(set.Kinds))}
	out.schema.Types = make([]smd.TypeDef, len(set.Types))
	for i := range set.Types {
		out.schema.Types[i].Name = set.Types[i].Name
		out.schema.Types[i].Atom = set.Types[i].schema()
	}
	for i := range set.Kinds {
		k := &set.Kinds[i]
		gvk := schema.GroupVersionKind{Group: k[0], Version: k[1], Kind: k[2]}
		out.kinds[gvk] = typed.ParseableType{Schema: &out.schema, TypeRef: smd.TypeRef{NamedType: &k[3]}}
	}
	return out, nil
}

func (a *atom) schema() smd.Atom {
	out := smd.Atom{Scalar: a.Scalar}
	if a.List != nil {
		out.List = &smd.List{ElementType: a.List.Element.schema(), ElementRelationship: a.List.Relationship, Keys: a.List.Keys}
	}
	if a.Map != nil {
		out.Map = &smd.Map{Fields: fields(a.Map.Fields), ElementType: a.Map.Element.schema(), ElementRelationship: a.Map.Relationship}
	}
	return out
}

func fields(in []fieldType) []smd.StructField {
	if len(in) == 0 {
		return nil
	}
	out := make([]smd.StructField, len(in))
	for i := range in {
		out[i] = smd.StructField{Name: in[i].Name, Type: in[i].schema(), Default: in[i].Default}
	}
	return out
}

func (r *reference) schema() smd.TypeRef {
	return smd.TypeRef{NamedType: r.Named, Inlined: r.atom.schema(), ElementRelationship: r.Relationship}
}
