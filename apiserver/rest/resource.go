// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package rest executes structured API requests: it reads from the watch cache, writes to the store in optimistic transactions, and runs
// each object through defaulting, admission and validation on the way. It knows nothing of HTTP: the HTTP handlers and the in-process
// client are two fronts on the same Engine.
package rest

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"kogge.dev/kogge/kinds"
)

// Resource is one resource that the engine serves, built-in or custom.
//
// For a built-in it is its descriptor and nothing else. For a custom resource the owner of the definition makes a descriptor of the
// same form, whose objects are *unstructured.Unstructured in the storage version, and adds Custom. In the descriptor's Served entries
// New must return an object with apiVersion and kind set; FromStorage and ToStorage convert between versions.
type Resource struct {
	Kind *kinds.Kind
	// Custom is set for custom resources.
	Custom *Custom
}

// Custom is what a custom resource needs besides a descriptor. Functions left nil mean that there is nothing to do.
type Custom struct {
	// Schema completes an object of a served version that came from a client: it drops unknown fields and returns their paths (as upstream's
	// strict decoding errors name them: `unknown field "spec.x"`), coerces metadata, and applies defaults. The object may be changed in place.
	Schema func(gv schema.GroupVersion, obj *unstructured.Unstructured) (unknown []string, err error)
	// Stored completes an object read from the store (storage version): pruning and defaults on read.
	Stored func(obj *unstructured.Unstructured)
	// Types returns the converter for server-side apply of a version; nil means a deduced one.
	Types func(gv schema.GroupVersion) (managedfields.TypeConverter, error)
	// Table returns the columns of a version, which render objects of that version; nil means those of the default table.
	Table func(gv schema.GroupVersion) *kinds.Table
	// Scale maps the scale of a version, of whose objects it works; nil for one without the subresource.
	Scale func(gv schema.GroupVersion) *kinds.Scale
	// Fields returns what objects of a version can be selected by, besides name and namespace; nil for a version without such fields.
	Fields func(gv schema.GroupVersion) func(kinds.Object) fields.Set
	// Allow refuses verbs ("create" while the definition is terminating) with a status error.
	Allow func(verb string) error
}

// scale maps the scale of a version; nil for one without.
func (c *Custom) scale(gv schema.GroupVersion) *kinds.Scale {
	if c.Scale == nil {
		return nil
	}
	return c.Scale(gv)
}

// GroupResource of the resource.
func (r *Resource) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.Kind.Served[0].Group, Resource: r.Kind.Resource}
}

// prefix is the store's key prefix, with slashes at both ends.
func (r *Resource) prefix() string { return "/registry/" + r.Kind.Storage.Prefix + "/" }

// key of one object.
func (r *Resource) key(namespace, name string) string {
	if r.Kind.Namespaced {
		return r.prefix() + namespace + "/" + name
	}
	return r.prefix() + name
}

// stored tells resources that have objects of their own from virtual ones.
func (r *Resource) stored() bool { return r.Kind.Storage.Prefix != "" }
