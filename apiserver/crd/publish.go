// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"

	"kogge.dev/kogge/apiserver/openapi"
)

type object = map[string]any

const (
	refPrefix     = "#/components/schemas/"
	listMetaModel = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
	// selectableExtension lists the fields that objects can be selected by.
	selectableExtension = "x-kubernetes-selectable-fields"
)

// documents names the OpenAPI documents of a group, by path. Each is made of what is served when somebody asks.
func (c *Controller) documents(group string) map[string]openapi.Source {
	all := c.servedOf(group)
	slices.SortFunc(all, func(a, b *served) int { return strings.Compare(a.crd.Name, b.crd.Name) })
	sums := map[string]hash.Hash{}
	for _, s := range all {
		for i := range s.kind.Served {
			version := s.kind.Served[i].Version
			if sums[version] == nil {
				sums[version] = sha256.New()
			}
			sums[version].Write(s.revision[:])
		}
	}
	out := make(map[string]openapi.Source, len(sums))
	for version, sum := range sums {
		out["apis/"+group+"/"+version] = openapi.Source{Version: hex.EncodeToString(sum.Sum(nil)), Make: func() openapi.Document {
			return c.document(c.versionsOf(group, version))
		}}
	}
	return out
}

// document describes the versions of one path. One whose schema can't be rendered is left out and logged.
func (c *Controller) document(versions []Version) openapi.Document {
	doc := openapi.Document{Paths: map[string]any{}, Schemas: map[string]json.RawMessage{}}
	for i := range versions {
		if err := versions[i].describe(&doc); err != nil {
			c.cfg.Logger.Warn("schema is not published", "object", versions[i].Definition, "err", err)
		}
	}
	return doc
}

// render makes a version's schema for the documents.
func (s *served) render(name string) (json.RawMessage, error) {
	tree, err := s.openAPI(name)
	if err != nil {
		return nil, err
	}
	for field, schema := range tree.Properties {
		visit(&schema, publish)
		tree.Properties[field] = schema
	}
	if fields := s.selectable(name); len(fields) > 0 {
		tree.AddExtension(selectableExtension, selectable(fields))
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(raw, []byte(`"#/definitions/`), []byte(`"`+refPrefix)), nil
}

// selectable is the extension for fields of a definition, without the dots that paths begin with.
func selectable(fields []string) []any {
	out := make([]any, len(fields))
	for i, field := range fields {
		out[i] = object{"fieldPath": strings.TrimPrefix(field, ".")}
	}
	return out
}

// publish says in OpenAPI's words that what a schema is of may be an integer or a string.
func publish(s *spec.Schema) {
	if s.Extensions["x-kubernetes-int-or-string"] == true && len(s.AnyOf) == 0 && len(s.AllOf) == 0 {
		kind := func(name string) spec.Schema {
			return spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{name}}}
		}
		s.AnyOf = []spec.Schema{kind("integer"), kind("string")}
	}
}

// describe adds the version's schemas and paths.
func (v *Version) describe(doc *openapi.Document) error {
	raw, err := v.Schema()
	if err != nil {
		return err
	}
	doc.Schemas[v.Definition] = raw
	list := object{
		"description": v.Kind + "List is a list of " + v.Kind,
		"type":        "object",
		"required":    []string{"items"},
		"properties": object{
			"apiVersion": object{"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"},
			"kind":       object{"type": "string", "description": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"},
			"items": object{
				"description": "List of " + v.Plural + ". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
				"type":        "array", "items": object{"$ref": refPrefix + v.Definition},
			},
			"metadata": object{
				"description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
				"allOf":       []object{{"$ref": refPrefix + listMetaModel}},
			},
		},
		"x-kubernetes-group-version-kind": []object{{"group": v.Group, "version": v.Version, "kind": v.ListKind}},
	}
	if len(v.Selectable) > 0 {
		list[selectableExtension] = selectable(v.Selectable)
	}
	rendered, err := json.Marshal(list)
	if err != nil {
		return err
	}
	doc.Schemas[v.listDefinition()] = rendered
	doc.Customs = append(doc.Customs, openapi.Custom{
		GroupVersionKind: v.GroupVersionKind, Resource: v.Plural, Namespaced: v.Namespaced, Status: v.Status, Scale: v.Scale,
		Model: v.Definition, List: v.listDefinition(),
	})
	return nil
}

func (v *Version) listDefinition() string {
	gvk := v.GroupVersionKind
	gvk.Kind = v.ListKind
	return definitionName(gvk)
}
