// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// Client is a Backend with the catalog of built-in kinds.
type Client struct {
	backend Backend
	catalog *catalog.Catalog
}

// New makes a client. Both arguments are required.
func New(backend Backend, known *catalog.Catalog) *Client {
	return &Client{backend: backend, catalog: known}
}

// Backend returns what carries the client's requests, for the few calls that have no typed form.
func (c *Client) Backend() Backend { return c.backend }

// Catalog returns the kinds that the client knows.
func (c *Client) Catalog() *catalog.Catalog { return c.catalog }

// Resource is the typed client of one resource.
type Resource[T kinds.Object] struct {
	backend Backend
	gvr     schema.GroupVersionResource
	into    func() T
	// metadata says that the client reads nothing else, slim that it does not read what makes objects large.
	metadata, slim bool
}

// Of returns the client of a built-in kind's Go type, at the version that the type belongs to. It panics for a type that the
// catalog does not list: that is a programming error.
func Of[T kinds.Object](c *Client) Resource[T] {
	var zero T
	kind, served := c.catalog.ByType(zero)
	if kind == nil {
		panic(fmt.Sprintf("client: %T is not in the catalog", zero))
	}
	return Resource[T]{backend: c.backend, gvr: served.GroupVersion().WithResource(kind.Resource)}
}

// At returns the client of any resource, for custom resources; into makes an empty object (unstructured, mostly).
func At[T kinds.Object](c *Client, gvr schema.GroupVersionResource, into func() T) Resource[T] {
	return Resource[T]{backend: c.backend, gvr: gvr, into: into}
}

// Any returns the client of a built-in kind without its Go type, at its preferred version: for loops over all kinds.
func Any(c *Client, kind *kinds.Kind) Resource[kinds.Object] {
	return Resource[kinds.Object]{backend: c.backend, gvr: kind.Served[0].GroupVersion().WithResource(kind.Resource)}
}

// MetadataOf returns a client of the same resource that reads no more than the metadata of objects. What it writes are patches, if anything.
func MetadataOf[T kinds.Object](r Resource[T]) Resource[*metav1.PartialObjectMetadata] {
	return Resource[*metav1.PartialObjectMetadata]{backend: r.backend, gvr: r.gvr, metadata: true, into: noMetadata}
}

func noMetadata() *metav1.PartialObjectMetadata { return &metav1.PartialObjectMetadata{} }

// GVR returns the resource that the client addresses.
func (r Resource[T]) GVR() schema.GroupVersionResource { return r.gvr }

func (r Resource[T]) request(verb Verb, namespace, name string) *Request {
	req := &Request{Verb: verb, Resource: r.gvr, Namespace: namespace, Name: name, Metadata: r.metadata, Slim: r.slim}
	if r.into != nil {
		req.Into = func() runtime.Object { return r.into() }
	}
	return req
}

func (r Resource[T]) do(ctx context.Context, req *Request) (T, error) {
	var zero T
	res, err := r.backend.Do(ctx, req)
	if err != nil {
		return zero, err
	}
	obj, ok := res.Object.(T)
	if !ok {
		return zero, fmt.Errorf("%s %s: answer is a %T, not a %T", req.Verb, r.gvr.Resource, res.Object, zero)
	}
	return obj, nil
}

// Get reads one object, consistently. Namespace is empty for cluster-scoped kinds, here and below.
func (r Resource[T]) Get(ctx context.Context, namespace, name string) (T, error) {
	return r.do(ctx, r.request(Get, namespace, name))
}

// ListResult is a page of objects.
type ListResult[T kinds.Object] struct {
	Items           []T
	ResourceVersion string
	Continue        string
}

// List reads the objects of a namespace, or of all when it is empty.
func (r Resource[T]) List(ctx context.Context, namespace string, opts metav1.ListOptions) (ListResult[T], error) {
	req := r.request(List, namespace, "")
	req.ListOptions = &opts
	res, err := r.backend.Do(ctx, req)
	if err != nil {
		return ListResult[T]{}, err
	}
	out := ListResult[T]{Items: make([]T, 0, len(res.Items)), ResourceVersion: res.ListMeta.ResourceVersion, Continue: res.ListMeta.Continue}
	for _, item := range res.Items {
		obj, ok := item.(T)
		if !ok {
			return ListResult[T]{}, fmt.Errorf("list %s: item is a %T", r.gvr.Resource, item)
		}
		out.Items = append(out.Items, obj)
	}
	return out, nil
}

// Watch streams changes; see Informer for the usual way to follow a resource.
func (r Resource[T]) Watch(ctx context.Context, namespace string, opts metav1.ListOptions) (Stream, error) {
	req := r.request(Watch, namespace, "")
	req.ListOptions = &opts
	return r.backend.Watch(ctx, req)
}

// Create stores a new object and returns it as stored.
func (r Resource[T]) Create(ctx context.Context, obj T) (T, error) {
	req := r.request(Create, obj.GetNamespace(), obj.GetName())
	req.Name, req.Object = "", obj
	return r.do(ctx, req)
}

// Update replaces an object; its resourceVersion, when set, must be the stored one.
func (r Resource[T]) Update(ctx context.Context, obj T) (T, error) { return r.UpdateSub(ctx, "", obj) }

// UpdateStatus replaces an object's status.
func (r Resource[T]) UpdateStatus(ctx context.Context, obj T) (T, error) {
	return r.UpdateSub(ctx, "status", obj)
}

// UpdateSub replaces an object through one of its subresources.
func (r Resource[T]) UpdateSub(ctx context.Context, subresource string, obj T) (T, error) {
	req := r.request(Update, obj.GetNamespace(), obj.GetName())
	req.Subresource, req.Object = subresource, obj
	return r.do(ctx, req)
}

// Patch changes an object. At most one subresource may be named.
func (r Resource[T]) Patch(ctx context.Context, namespace, name string, kind types.PatchType, data []byte, subresource ...string) (T, error) {
	req := r.request(Patch, namespace, name)
	req.PatchType, req.Patch = kind, data
	if len(subresource) > 0 {
		req.Subresource = subresource[0]
	}
	return r.do(ctx, req)
}

// Delete removes an object, gracefully where its kind says so.
func (r Resource[T]) Delete(ctx context.Context, namespace, name string, opts metav1.DeleteOptions) error {
	req := r.request(Delete, namespace, name)
	req.DeleteOptions = &opts
	_, err := r.backend.Do(ctx, req)
	return err
}

// DeleteCollection removes all objects that the list options select.
func (r Resource[T]) DeleteCollection(ctx context.Context, namespace string, del metav1.DeleteOptions, list metav1.ListOptions) error {
	req := r.request(DeleteCollection, namespace, "")
	req.DeleteOptions, req.ListOptions = &del, &list
	_, err := r.backend.Do(ctx, req)
	return err
}

// Post creates an object of another type through a subresource (bindings, evictions, tokens) and returns the answer.
func (r Resource[T]) Post(ctx context.Context, namespace, name, subresource string, body runtime.Object) (runtime.Object, error) {
	req := r.request(Create, namespace, name)
	req.Subresource, req.Object = subresource, body
	res, err := r.backend.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	return res.Object, nil
}

// IgnoreNotFound returns nil for the error that says that an object is not there, and any other error as it is.
func IgnoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Ended returns nil when ctx is what ended a call, and the call's error otherwise: a component that is told to stop has not
// failed.
func Ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the purpose of this function
	}
	return err
}
