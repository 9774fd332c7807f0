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
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
)

// Resource is one resource that the engine serves, built-in or custom.
//
// For a built-in it is its descriptor and nothing else. For a custom resource the owner of the definition makes a descriptor of the
// same form, whose objects are *unstructured.Unstructured, and adds Custom. Of the functions in the descriptor only Fields,
// ValidateName and the conversions of its versions are set.
type Resource struct {
	Kind *kinds.Kind
	// Custom is set for custom resources.
	Custom Custom
}

// Custom is what a custom resource has in place of a descriptor's functions, and needs besides. It is one value with methods, as a cluster may have hundreds of
// definitions that nobody uses, and each function would be an object that stays.
type Custom interface {
	// PrepareCreate, PrepareUpdate, Validate and ValidateUpdate are those of kinds.Kind, for objects at the version of the request.
	PrepareCreate(req kinds.Request, obj kinds.Object)
	PrepareUpdate(req kinds.Request, next, old kinds.Object)
	Validate(req kinds.Request, obj kinds.Object) field.ErrorList
	ValidateUpdate(req kinds.Request, next, old kinds.Object) field.ErrorList
	// PrepareStatus and ValidateStatus are for the status what Prepare and Validate of kinds.Subresource are.
	PrepareStatus(req kinds.Request, next, old kinds.Object)
	ValidateStatus(req kinds.Request, next, old kinds.Object) field.ErrorList
	// Has reports whether a version has a subresource, status or scale.
	Has(gv schema.GroupVersion, subresource string) bool
	// Complete brings an object of a served version that came from a client into form: it drops unknown fields and returns their paths (as upstream's
	// strict decoding errors name them: `unknown field "spec.x"`), coerces metadata, and applies defaults. The object may be changed in place.
	Complete(gv schema.GroupVersion, obj *unstructured.Unstructured) (unknown []string, err error)
	// Stored brings an object read from the store (storage version) into form: pruning and defaults on read.
	Stored(obj *unstructured.Unstructured)
	// Types returns the converter for server-side apply of a version.
	Types(gv schema.GroupVersion) (managedfields.TypeConverter, error)
	// Table returns the columns of a version, which render objects of that version; nil means those of the default table.
	Table(gv schema.GroupVersion) *kinds.Table
	// Scale maps the scale of a version, of whose objects it works; nil for one without the subresource.
	Scale(gv schema.GroupVersion) *kinds.Scale
	// Fields returns what objects of a version can be selected by, besides name and namespace; nil for a version without such fields.
	Fields(gv schema.GroupVersion) func(kinds.Object) fields.Set
	// AllowCreate refuses a new object with a status error while the definition is terminating.
	AllowCreate(name string) error
}

// prepareCreate is what kinds.Kind.PrepareCreate says.
func (r *Resource) prepareCreate(req kinds.Request, obj kinds.Object) {
	switch {
	case r.Custom != nil:
		r.Custom.PrepareCreate(req, obj)
	case r.Kind.PrepareCreate != nil:
		r.Kind.PrepareCreate(req, obj)
	}
}

// validate is what kinds.Kind.Validate says.
func (r *Resource) validate(req kinds.Request, obj kinds.Object) field.ErrorList {
	switch {
	case r.Custom != nil:
		return r.Custom.Validate(req, obj)
	case r.Kind.Validate != nil:
		return r.Kind.Validate(req, obj)
	}
	return nil
}

// prepareUpdate is what kinds.Kind.PrepareUpdate says, or kinds.Subresource.Prepare where sub is not nil.
func (r *Resource) prepareUpdate(sub *kinds.Subresource, req kinds.Request, next, old kinds.Object) {
	switch {
	case r.Custom != nil && sub != nil:
		r.Custom.PrepareStatus(req, next, old)
	case r.Custom != nil:
		r.Custom.PrepareUpdate(req, next, old)
	case sub != nil:
		if sub.Prepare != nil {
			sub.Prepare(req, next, old)
		}
	case r.Kind.PrepareUpdate != nil:
		r.Kind.PrepareUpdate(req, next, old)
	}
}

// validateUpdate is what kinds.Kind.ValidateUpdate says, or kinds.Subresource.Validate where sub is not nil.
func (r *Resource) validateUpdate(sub *kinds.Subresource, req kinds.Request, next, old kinds.Object) field.ErrorList {
	switch {
	case r.Custom != nil && sub != nil:
		return r.Custom.ValidateStatus(req, next, old)
	case r.Custom != nil:
		return r.Custom.ValidateUpdate(req, next, old)
	case sub != nil:
		if sub.Validate != nil {
			return sub.Validate(req, next, old)
		}
	case r.Kind.ValidateUpdate != nil:
		return r.Kind.ValidateUpdate(req, next, old)
	}
	return nil
}

// GroupResource of the resource.
func (r *Resource) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.Kind.Served[0].Group, Resource: r.Kind.Resource}
}

// stored tells resources that have objects of their own from virtual ones.
func (r *Resource) stored() bool { return r.Kind.Storage.Prefix != "" }
