// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package client is how every engine talks to an API server: a typed, generic client and shared informers over a Backend. A Backend is either HTTP to
// any conformant API server (NewHTTP) or a call into the one of this process; callers cannot tell the difference.
//
// What a client returns is shared and immutable: DeepCopy before changing it. Errors are *apierrors.StatusError.
package client

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Verb is an API verb.
type Verb string

// The verbs that a Request may carry.
const (
	Get              Verb = "get"
	List             Verb = "list"
	Create           Verb = "create"
	Update           Verb = "update"
	Patch            Verb = "patch"
	Delete           Verb = "delete"
	DeleteCollection Verb = "deletecollection"
	Watch            Verb = "watch"
)

// Request is one API call in structured form. Which fields hold is said per field.
type Request struct {
	Verb     Verb
	Resource schema.GroupVersionResource
	// Namespace is empty for cluster-scoped resources and for lists and watches of all namespaces.
	Namespace string
	// Name is empty for list, create, deletecollection; for watch it selects one object.
	Name        string
	Subresource string

	// Object is the body of create and update. The backend never keeps or changes it.
	Object runtime.Object
	// PatchType and Patch are the body of patch.
	PatchType types.PatchType
	Patch     []byte
	// Metadata asks for no more than the metadata of objects: a *metav1.PartialObjectMetadata for each. Get, list, watch and patch may ask for it.
	Metadata bool
	// Slim lets a backend leave out of what list and watch answer what makes objects of a kind large: the schemas of definitions.
	Slim bool
	// Into makes an empty object of the answer's type where the catalog can't tell (custom resources: unstructured).
	Into func() runtime.Object

	// One of these is read, by verb; nil means defaults.
	ListOptions   *metav1.ListOptions   // list, watch, and the selection of deletecollection
	GetOptions    *metav1.GetOptions    // get
	CreateOptions *metav1.CreateOptions // create
	UpdateOptions *metav1.UpdateOptions // update
	PatchOptions  *metav1.PatchOptions  // patch
	DeleteOptions *metav1.DeleteOptions // delete, deletecollection
}

// Result answers a Request.
type Result struct {
	// Object is the answer: for unary verbs an object of the resource's (or subresource's) type, or a *metav1.Status;
	// nil for lists.
	Object runtime.Object
	// Items and ListMeta are a list's. The items are of the resource's type.
	Items    []runtime.Object
	ListMeta metav1.ListMeta
	// Created is set when an update or patch made the object.
	Created bool
}

// Stream is a running watch. Events arrive in revision order until the channel closes; the last one may be an Error
// event that holds a *metav1.Status. Stop ends it and may be called more than once.
type Stream interface {
	Events() <-chan watch.Event
	Stop()
}

// Puller is a Stream that can be asked for its events: nothing has to run for it while there are none. A backend's streams are of this kind where they can be.
type Puller interface {
	Stream
	// Next waits for events and returns them in order; false means that they are the last ones. One goroutine calls it, instead of reading Events, and calls
	// Stop when it wants no more.
	Next() ([]watch.Event, bool)
}

// Backend carries requests to an API server under one fixed identity. The in-process one skips the socket, never
// authorization, admission or audit.
type Backend interface {
	Do(ctx context.Context, req *Request) (*Result, error)
	Watch(ctx context.Context, req *Request) (Stream, error)
}

// FirstNotifier is a Backend that can tell of the first object of a resource that has none: no watch need be open for that.
type FirstNotifier interface {
	// NotifyFirst reports whether req's resource has no objects. Only then notify is called, once, as soon as that may be otherwise, on any goroutine; it must
	// not block.
	NotifyFirst(ctx context.Context, req *Request, notify func()) bool
}
