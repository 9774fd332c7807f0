// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package admission is the contract between the request path and the admission plugins. The request path runs all mutating plugins in
// order, then validates the object, then runs all validating plugins in order.
package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/kinds"
)

// Operation is what happens to the object.
type Operation string

// Operations, as in AdmissionReview.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes describe one admission question.
type Attributes struct {
	Operation   Operation
	Resource    schema.GroupVersionResource
	Kind        schema.GroupVersionKind
	Subresource string
	Namespace   string
	// Name may be empty on create with generateName.
	Name string
	// Object is the new object; mutating plugins change it in place. Nil on delete. For built-in kinds it is the storage
	// type, for custom resources unstructured, for connect the options object.
	Object runtime.Object
	// Old is the stored object on update and delete, shared: never changed.
	Old runtime.Object
	// Options is the verb's options object (*metav1.CreateOptions, ...).
	Options runtime.Object
	DryRun  bool
	User    request.User
	// Reinvocation belongs to the mutating plugins; the request path leaves it nil.
	Reinvocation *Reinvocation
}

// Mutator changes or refuses objects. Errors are API status errors (mostly Forbidden).
type Mutator interface {
	Admit(ctx context.Context, a *Attributes) error
}

// Validator refuses objects.
type Validator interface {
	Validate(ctx context.Context, a *Attributes) error
}

// Plugin is one admission plugin; it implements Mutator, Validator, or both.
type Plugin struct {
	// Name as upstream's, for metrics and messages.
	Name     string
	Mutate   Mutator
	Validate Validator
}

// Reader gives plugins and authorizers the cluster's state from the watch cache. Objects are shared and immutable.
type Reader interface {
	// Get returns the object of a built-in resource in its storage version, or nil. fresh asks for a linearizable read.
	Get(ctx context.Context, gr schema.GroupResource, namespace, name string) (kinds.Object, error)
	GetFresh(ctx context.Context, gr schema.GroupResource, namespace, name string) (kinds.Object, error)
	// List returns all objects of a namespace, or of all namespaces when it is empty.
	List(ctx context.Context, gr schema.GroupResource, namespace string) ([]kinds.Object, error)
	// Version is another one after each change of a resource that Get and List show. Who keeps what follows from a list asks for it before.
	Version(gr schema.GroupResource) (uint64, error)
}
