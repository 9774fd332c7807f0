// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// typeSet is the content of types.json.gz; apiserver/openapi reads it.
type typeSet struct {
	// Kinds names the type of each kind: group, version, kind, type.
	Kinds [][4]string `json:"kinds"`
	Types []namedType `json:"types"`
}

type namedType struct {
	Name string `json:"n"`
	atom
}

// atom is a type: exactly one of its parts, or several where a value may be of several kinds.
type atom struct {
	Scalar string   `json:"s,omitempty"`
	List   *list    `json:"l,omitempty"`
	Map    *mapping `json:"m,omitempty"`
}

type reference struct {
	Named string `json:"t,omitempty"`
	atom
	// Relationship overrides that of the named type.
	Relationship string `json:"r,omitempty"`
}

type list struct {
	Element      *reference `json:"e,omitempty"`
	Relationship string     `json:"r,omitempty"`
	Keys         []string   `json:"k,omitempty"`
}

type mapping struct {
	Fields       []field    `json:"f,omitempty"`
	Element      *reference `json:"e,omitempty"`
	Relationship string     `json:"r,omitempty"`
}

type field struct {
	Name string `json:"n"`
	reference
	Default any `json:"d,omitempty"`
}

// applyTypes turns the schemas into the types that the apply algorithm works with.
func applyTypes(definitions []byte) ([]byte, error) {
	var doc struct {
		Schemas map[string]*spec.Schema `json:"schemas"`
	}
	if err := json.Unmarshal(definitions, &doc); err != nil {
		return nil, err
	}
	converted, err := schemaconv.ToSchemaFromOpenAPI(doc.Schemas, false)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(converted.Types, func(a, b smd.TypeDef) int { return strings.Compare(a.Name, b.Name) })
	var out typeSet
	for i := range converted.Types {
		t := &converted.Types[i]
		if t.Map != nil && len(t.Unions) > 0 {
			return nil, fmt.Errorf("%s has unions, which types.json.gz has no place for", t.Name)
		}
		out.Types = append(out.Types, namedType{Name: t.Name, atom: atomOf(&t.Atom)})
		kinds, err := kindsOf(doc.Schemas[t.Name])
		if err != nil {
			return nil, fmt.Errorf("kinds of %s: %w", t.Name, err)
		}
		for _, k := range kinds {
			out.Kinds = append(out.Kinds, [4]string{k.Group, k.Version, k.Kind, t.Name})
		}
	}
	return json.Marshal(out)
}

type groupVersionKind struct{ Group, Version, Kind string }

func kindsOf(s *spec.Schema) ([]groupVersionKind, error) {
	if s == nil {
		return nil, nil
	}
	text, err := json.Marshal(s.Extensions["x-kubernetes-group-version-kind"])
	if err != nil {
		return nil, err
	}
	var out []groupVersionKind
	return out, json.Unmarshal(text, &out)
}

func atomOf(a *smd.Atom) atom {
	var out atom
	if a.Scalar != nil {
		out.Scalar = string(*a.Scalar)
	}
	if a.List != nil {
		out.List = &list{Element: referenceOf(&a.List.ElementType), Relationship: string(a.List.ElementRelationship), Keys: a.Keys}
	}
	if a.Map != nil {
		out.Map = &mapping{Element: referenceOf(&a.Map.ElementType), Relationship: string(a.Map.ElementRelationship)}
		for i := range a.Fields {
			f := &a.Fields[i]
			out.Map.Fields = append(out.Map.Fields, field{Name: f.Name, reference: *referenceOf(&f.Type), Default: f.Default})
		}
		slices.SortFunc(out.Map.Fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	}
	return out
}

func referenceOf(t *smd.TypeRef) *reference {
	out := &reference{atom: atomOf(&t.Inlined)}
	if t.NamedType != nil {
		out.Named = *t.NamedType
	}
	if t.ElementRelationship != nil {
		out.Relationship = string(*t.ElementRelationship)
	}
	return out
}
