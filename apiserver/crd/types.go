// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// metaDefinition is the name under which the generated schemas refer to ObjectMeta.
const metaDefinition = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

// openAPI returns the version's schema with the fields that every object has, for publication and server-side apply.
func (s *served) openAPI(name string) (*spec.Schema, error) {
	c, err := s.version(name).glance()
	if err != nil {
		return nil, err
	}
	out := c.structural.ToKubeOpenAPI()
	if c.bare {
		out = &spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}
		out.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	}
	visit(out, describeEmbedded)
	describeObject(out)
	gvk := s.gvk(name)
	out.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	return out, nil
}

// visit calls change for the schemas below one, and then for that.
func visit(s *spec.Schema, change func(*spec.Schema)) {
	for field, below := range s.Properties {
		visit(&below, change)
		s.Properties[field] = below
	}
	if s.Items != nil && s.Items.Schema != nil {
		visit(s.Items.Schema, change)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		visit(s.AdditionalProperties.Schema, change)
	}
	change(s)
}

// describeEmbedded adds to a schema, if it is of a whole object in another, the fields that every object has.
func describeEmbedded(s *spec.Schema) {
	if s.Extensions["x-kubernetes-embedded-resource"] != true {
		return
	}
	describeObject(s)
	for _, field := range []string{"kind", "apiVersion"} {
		if !slices.Contains(s.Required, field) {
			s.Required = append(s.Required, field)
		}
	}
}

// describeObject adds to a schema the fields that every object has.
func describeObject(out *spec.Schema) {
	if out.Properties == nil {
		out.Properties = map[string]spec.Schema{}
	}
	doc := metav1.TypeMeta{}.SwaggerDoc()
	for _, key := range []string{"apiVersion", "kind"} {
		out.Properties[key] = spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"string"}, Description: doc[key]}}
	}
	out.Properties["metadata"] = spec.Schema{SchemaProps: spec.SchemaProps{
		Description: "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
		AllOf:       []spec.Schema{{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef("#/definitions/" + metaDefinition)}}},
	}}
}

// types makes the converter for server-side apply of a version.
func (s *served) types(name string) (managedfields.TypeConverter, error) {
	schema, err := s.openAPI(name)
	if err != nil {
		return nil, err
	}
	definitions := map[string]*spec.Schema{
		definitionName(s.gvk(name)): schema,
		metaDefinition:              metaSchema(),
	}
	out, err := managedfields.NewTypeConverter(definitions, s.version(name).preserve())
	if err != nil {
		return nil, fmt.Errorf("types of %s at %s: %w", s.crd.Name, name, err)
	}
	return out, nil
}

// converter is types for a manager of requests at one version. Objects of the other versions are typed by their own: what somebody manages at
// one of them is theirs, too. Their schemas are compiled when such an object comes.
func (s *served) converter(name string) (managedfields.TypeConverter, error) {
	own, err := s.types(name)
	if err != nil {
		return nil, err
	}
	return &converters{served: s, name: name, own: own}, nil
}

// converters of all versions of a definition.
type converters struct {
	served *served
	// name is the version of own.
	name   string
	own    managedfields.TypeConverter
	others sync.Map // managedfields.TypeConverter by the version's name
}

// ObjectToTyped implements managedfields.TypeConverter. Kinds that the definition does not have are refused by own.
func (c *converters) ObjectToTyped(obj runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Version == c.name || gvk != c.served.gvk(gvk.Version) || c.served.version(gvk.Version) == nil {
		return c.own.ObjectToTyped(obj, options...)
	}
	known, ok := c.others.Load(gvk.Version)
	if !ok {
		other, err := c.served.types(gvk.Version)
		if err != nil {
			return nil, err
		}
		known, _ = c.others.LoadOrStore(gvk.Version, other)
	}
	return known.(managedfields.TypeConverter).ObjectToTyped(obj, options...)
}

// TypedToObject implements managedfields.TypeConverter. A value says itself what it is.
func (c *converters) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	return c.own.TypedToObject(v)
}

// metaSchema is what apply needs to know of ObjectMeta: which lists are sets and maps.
func metaSchema() *spec.Schema {
	text := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"string"}}}
	number := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"integer"}}}
	texts := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}, AdditionalProperties: &spec.SchemaOrBool{Allows: true, Schema: &text}}}
	finalizers := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"array"}, Items: &spec.SchemaOrArray{Schema: &text}}}
	finalizers.AddExtension("x-kubernetes-list-type", "set")
	owner := spec.Schema{SchemaProps: spec.SchemaProps{
		Type:     spec.StringOrArray{"object"},
		Required: []string{"apiVersion", "kind", "name", "uid"},
		Properties: map[string]spec.Schema{
			"apiVersion": text, "kind": text, "name": text, "uid": text,
			"controller":         {SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"boolean"}}},
			"blockOwnerDeletion": {SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"boolean"}}},
		},
	}}
	owner.AddExtension("x-kubernetes-map-type", "atomic")
	owners := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"array"}, Items: &spec.SchemaOrArray{Schema: &owner}}}
	owners.AddExtension("x-kubernetes-list-type", "map")
	owners.AddExtension("x-kubernetes-list-map-keys", []any{"uid"})
	managed := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"array"}, Items: &spec.SchemaOrArray{Schema: &spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}}}}}}
	managed.AddExtension("x-kubernetes-list-type", "atomic")
	return &spec.Schema{SchemaProps: spec.SchemaProps{
		Type: spec.StringOrArray{"object"},
		Properties: map[string]spec.Schema{
			"name": text, "generateName": text, "namespace": text, "selfLink": text, "uid": text, "resourceVersion": text,
			"generation": number, "creationTimestamp": text, "deletionTimestamp": text, "deletionGracePeriodSeconds": number,
			"labels": texts, "annotations": texts, "finalizers": finalizers, "ownerReferences": owners, "managedFields": managed,
		},
	}}
}
