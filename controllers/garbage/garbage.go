// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package garbage deletes objects whose owners are all gone, and carries out foreground deletion and orphaning. What it
// knows is the graph of package graph; before it acts it reads the object anew.
package garbage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/garbage/graph"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
)

// Keys of the loop have the kind of work in Namespace and its subject in Name: a UID, or an APIService.
const (
	examine  = "examine"
	release  = "release"
	discover = "discover"
)

// resource is one kind of object that is followed. There is one for each definition, mostly without objects.
type resource struct {
	api client.Resource[kinds.Object]
	gvk schema.GroupVersionKind
	// apiVersion is gvk's as objects have it, from the first of them on; guarded by controller.mu.
	apiVersion string
	namespaced bool
	// defined resources come and go, by a definition or with another server; the others are built in.
	defined bool
	// service names the APIService of another server that serves the resource; empty for this one's.
	service string
	objects *client.Informer[*metav1.PartialObjectMetadata]
}

// trim returns what of an object's metadata the graph is made of. Its names are one text: those of obj would each stay by themselves.
func trim(obj *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	names := obj.Namespace + obj.Name + string(obj.UID)
	name, uid := len(obj.Namespace), len(obj.Namespace)+len(obj.Name)
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: names[:name], Name: names[name:uid], UID: types.UID(names[uid:]),
		OwnerReferences: obj.OwnerReferences, Finalizers: obj.Finalizers, DeletionTimestamp: obj.DeletionTimestamp,
	}}
}

type controller struct {
	reconcile.Scope
	loop     *reconcile.Loop
	services *client.Informer[*apiregistrationv1.APIService]

	mu        sync.Mutex
	graph     graph.Graph
	resources map[schema.GroupKind]*resource
	// left are resources that were followed once and then not: the graph may know objects of them that went meanwhile.
	left map[schema.GroupResource]bool
}

// New makes the loop. It follows every deletable built-in resource, custom resources as they are defined, and those of other servers as
// their APIServices become available.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{Scope: scope, resources: map[schema.GroupKind]*resource{}, left: map[schema.GroupResource]bool{}}
	c.loop = reconcile.New(reconcile.Config{
		Name: "generic-garbage-collector", Log: scope.Log, Workers: 10, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	for _, kind := range scope.Client.Catalog().All() {
		// Events have no owners and are many; nothing is ever owned by one.
		if kind.Allows("delete") && kind.Allows("watch") && kind.Resource != "events" {
			c.follow(&resource{api: client.Any(scope.Client, kind), gvk: kind.Served[0].GroupVersionKind, namespaced: kind.Namespaced})
		}
	}
	crds := reconcile.Definitions(scope.Informers)
	crds.Handle(client.Handler[*apiextensionsv1.CustomResourceDefinition]{
		Add:    c.define,
		Update: func(_, crd *apiextensionsv1.CustomResourceDefinition) { c.define(crd) },
		Delete: c.undefine,
	})
	c.followServices()
	return c.loop
}

// define follows the objects of an established definition, at another version once theirs is not served any more.
func (c *controller) define(crd *apiextensionsv1.CustomResourceDefinition) {
	gk := schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Status.AcceptedNames.Kind}
	c.mu.Lock()
	known := c.resources[gk]
	c.mu.Unlock()
	if known != nil {
		if known.service != "" || known.api.GVR().GroupResource() != (schema.GroupResource{Group: gk.Group, Resource: crd.Spec.Names.Plural}) {
			return
		}
		if reconcile.ServedVersion(crd, known.gvk.Version) == known.gvk.Version {
			return
		}
		c.drop(known)
	}
	version := reconcile.ServedVersion(crd, "")
	if version == "" || (known == nil && crd.DeletionTimestamp != nil) {
		return
	}
	c.follow(c.defined(gk.WithVersion(version), crd.Status.AcceptedNames.Plural, crd.Spec.Scope == apiextensionsv1.NamespaceScoped))
}

// defined is a resource that may be served at another version one day, or not at all.
func (c *controller) defined(gvk schema.GroupVersionKind, plural string, namespaced bool) *resource {
	api := client.At[kinds.Object](c.Client, gvk.GroupVersion().WithResource(plural), func() kinds.Object { return &unstructured.Unstructured{} })
	return &resource{api: api, gvk: gvk, namespaced: namespaced, defined: true}
}

// undefine stops following the objects of a definition that is gone.
func (c *controller) undefine(crd *apiextensionsv1.CustomResourceDefinition) {
	c.mu.Lock()
	r := c.resources[schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Status.AcceptedNames.Kind}]
	c.mu.Unlock()
	if r != nil && r.api.GVR().Resource == crd.Spec.Names.Plural {
		c.drop(r)
	}
}

// drop stops following a resource. What the graph has of it stays until it is followed again.
func (c *controller) drop(r *resource) {
	c.mu.Lock()
	if c.resources[r.gvk.GroupKind()] == r {
		delete(c.resources, r.gvk.GroupKind())
	}
	c.left[r.api.GVR().GroupResource()] = true
	c.mu.Unlock()
	client.Drop(c.Informers, r.objects)
}

func (c *controller) follow(r *resource) {
	c.mu.Lock()
	if c.resources[r.gvk.GroupKind()] != nil {
		c.mu.Unlock()
		return
	}
	r.objects = client.TrimmedInformer(c.Informers, client.MetadataOf(r.api), trim)
	c.resources[r.gvk.GroupKind()] = r
	again := c.left[r.api.GVR().GroupResource()]
	delete(c.left, r.api.GVR().GroupResource())
	c.mu.Unlock()
	observe := func(obj *metav1.PartialObjectMetadata) {
		c.mu.Lock()
		if c.replacedLocked(r) {
			c.mu.Unlock()
			return
		}
		work := c.graph.Observe(r.identifyLocked(obj), obj)
		c.mu.Unlock()
		c.enqueue(work)
	}
	handler := client.Handler[*metav1.PartialObjectMetadata]{
		Add:    observe,
		Update: func(_, obj *metav1.PartialObjectMetadata) { observe(obj) },
		Delete: func(last *metav1.PartialObjectMetadata) {
			c.mu.Lock()
			if c.replacedLocked(r) {
				c.mu.Unlock()
				return
			}
			work := c.graph.Remove(last.GetUID())
			c.mu.Unlock()
			c.enqueue(work)
		},
	}
	if again {
		handler.Synced = func() { c.sweep(r) }
	}
	r.objects.Handle(handler)
}

// replacedLocked tells a resource whose objects are told by another one now: what its informer still delivers is old.
func (c *controller) replacedLocked(r *resource) bool {
	now := c.resources[r.gvk.GroupKind()]
	return now != nil && now != r
}

// sweep looks at the objects that went while nobody followed their resource: nothing told of their deletion.
func (c *controller) sweep(r *resource) {
	c.mu.Lock()
	known := c.graph.Of(r.api.GVR().GroupResource())
	c.mu.Unlock()
	for _, id := range known {
		if obj, ok := r.objects.Get(id.Namespace, id.Name); !ok || obj.GetUID() != id.UID {
			c.loop.Enqueue(reconcile.Key{Namespace: examine, Name: string(id.UID)})
		}
	}
}

func (r *resource) identifyLocked(obj metav1.Object) graph.Identity {
	if r.apiVersion == "" {
		r.apiVersion = r.gvk.GroupVersion().String()
	}
	return graph.Identity{
		Resource: r.api.GVR(), APIVersion: r.apiVersion, Kind: r.gvk.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(),
	}
}

func (c *controller) enqueue(work graph.Work) {
	for _, uid := range work.Examine {
		c.loop.Enqueue(reconcile.Key{Namespace: examine, Name: string(uid)})
	}
	for _, uid := range work.Release {
		c.loop.Enqueue(reconcile.Key{Namespace: release, Name: string(uid)})
	}
}

// snapshot is what one reconcile needs to know of a node, copied under the lock.
type snapshot struct {
	graph.Identity
	owners               []metav1.OwnerReference
	virtual              bool
	foreground           bool
	dependents, blocking []graph.Identity
	cycle                bool // a dependent waits for its own dependents
}

func (c *controller) look(uid types.UID) (snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.graph.Node(uid)
	if n == nil {
		return snapshot{}, false
	}
	s := snapshot{Identity: n.Identity, owners: n.Owners, virtual: n.Virtual, foreground: n.Foreground}
	for _, d := range n.Dependents() {
		s.dependents = append(s.dependents, d.Identity)
		s.cycle = s.cycle || d.Foreground
	}
	for _, d := range n.Blocking() {
		s.blocking = append(s.blocking, d.Identity)
	}
	return s, true
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	if key.Namespace == discover {
		return c.discover(ctx, key.Name)
	}
	s, ok := c.look(types.UID(key.Name))
	switch {
	case !ok:
		return nil
	case key.Namespace == release:
		return c.orphan(ctx, s)
	}
	return c.examine(ctx, s)
}

// fresh reads the object that an identity names; nil when it does not exist or is another one by now.
func (c *controller) fresh(ctx context.Context, id graph.Identity) (kinds.Object, *resource, error) {
	gv, err := schema.ParseGroupVersion(id.APIVersion)
	if err != nil {
		return nil, nil, nil //nolint:nilerr // a reference to a version that can't be: nothing has that kind
	}
	c.mu.Lock()
	r := c.resources[gv.WithKind(id.Kind).GroupKind()]
	c.mu.Unlock()
	if r == nil {
		return nil, nil, fmt.Errorf("kind %s of %s is not served, so whether owner %s exists can't be known", id.Kind, id.APIVersion, id.Name)
	}
	obj, err := c.get(ctx, r, id)
	return obj, r, err
}

// get reads an object; nil when it does not exist or is another one by now. That a resource is not served where it was followed is
// an error: its objects exist at another version, or will be served again.
func (c *controller) get(ctx context.Context, r *resource, id graph.Identity) (kinds.Object, error) {
	namespace := ""
	if r.namespaced {
		namespace = id.Namespace
	}
	obj, err := r.api.Get(ctx, namespace, id.Name)
	if apierrors.IsNotFound(err) && r.defined {
		// Both are "not found", the object and its resource. A list tells them apart, whatever the definition says by now.
		obj, err = c.find(ctx, r, namespace, id.Name)
	}
	if apierrors.IsNotFound(err) || (err == nil && (obj == nil || obj.GetUID() != id.UID)) {
		return nil, nil
	}
	return obj, err
}

// find reads an object by a list; nil when it does not exist.
func (c *controller) find(ctx context.Context, r *resource, namespace, name string) (kinds.Object, error) {
	list, err := r.api.List(ctx, namespace, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		//nolint:errorlint // not wrapped: an absent resource must not look like an absent object
		return nil, fmt.Errorf("%s is not served, so whether %s exists can't be known: %v", r.api.GVR(), name, err)
	}
	for _, obj := range list.Items {
		if obj.GetName() == name {
			return obj, nil
		}
	}
	return nil, nil
}

// examine decides about one object.
func (c *controller) examine(ctx context.Context, s snapshot) error {
	obj, r, err := c.fresh(ctx, s.Identity)
	if err != nil {
		return err
	}
	if obj == nil {
		c.mu.Lock()
		work := c.graph.Remove(s.UID)
		c.mu.Unlock()
		c.enqueue(work)
		return nil
	}
	if s.virtual {
		return reconcile.Unseen()
	}
	if obj.GetDeletionTimestamp() != nil {
		if s.foreground {
			return c.finishForeground(ctx, r, s)
		}
		return nil
	}
	if len(obj.GetOwnerReferences()) == 0 {
		return nil
	}
	solid, dangling, waiting, err := c.classify(ctx, s.Namespace, obj.GetOwnerReferences())
	if err != nil {
		return err
	}
	switch {
	case len(solid) > 0:
		return c.dropOwners(ctx, r, obj, append(dangling, waiting...))
	case len(waiting) > 0 && len(s.dependents) > 0:
		if s.cycle {
			if err := c.unblock(ctx, r, obj); err != nil {
				return err
			}
		}
		return c.remove(ctx, r, obj, metav1.DeletePropagationForeground)
	}
	policy := metav1.DeletePropagationBackground
	switch {
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents):
		policy = metav1.DeletePropagationOrphan
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents):
		policy = metav1.DeletePropagationForeground
	}
	return c.remove(ctx, r, obj, policy)
}

// classify sorts owners into those that live, those that are gone, and those that wait for their dependents to go.
func (c *controller) classify(ctx context.Context, namespace string, refs []metav1.OwnerReference) (solid, dangling, waiting []metav1.OwnerReference, err error) {
	for _, ref := range refs {
		owner, _, err := c.fresh(ctx, graph.Identity{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: namespace, Name: ref.Name, UID: ref.UID})
		switch {
		case err != nil:
			return nil, nil, nil, err
		case owner == nil:
			dangling = append(dangling, ref)
		case owner.GetDeletionTimestamp() != nil && slices.Contains(owner.GetFinalizers(), metav1.FinalizerDeleteDependents):
			waiting = append(waiting, ref)
		default:
			solid = append(solid, ref)
		}
	}
	return solid, dangling, waiting, nil
}

// finishForeground removes the finalizer once no dependent blocks, else looks after the dependents.
func (c *controller) finishForeground(ctx context.Context, r *resource, s snapshot) error {
	if len(s.blocking) == 0 {
		return c.dropFinalizer(ctx, r, s.Identity, metav1.FinalizerDeleteDependents)
	}
	for _, d := range s.blocking {
		c.loop.Enqueue(reconcile.Key{Namespace: examine, Name: string(d.UID)})
	}
	return nil
}

// orphan frees all dependents of an object and lets it go.
func (c *controller) orphan(ctx context.Context, s snapshot) error {
	var errs []error
	for _, d := range s.dependents {
		obj, r, err := c.fresh(ctx, d)
		if err == nil && obj != nil {
			err = c.dropOwners(ctx, r, obj, []metav1.OwnerReference{{UID: s.UID}})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("orphan %s %s/%s: %w", d.Kind, d.Namespace, d.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, r, err := c.fresh(ctx, s.Identity)
	if err != nil || r == nil {
		return err
	}
	return c.dropFinalizer(ctx, r, s.Identity, metav1.FinalizerOrphanDependents)
}

func (c *controller) dropFinalizer(ctx context.Context, r *resource, id graph.Identity, finalizer string) error {
	obj, err := c.get(ctx, r, id)
	if err != nil || obj == nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return f == finalizer })
	if len(kept) == len(obj.GetFinalizers()) {
		return nil
	}
	return c.patch(ctx, r, obj, map[string]any{"finalizers": kept})
}

// dropOwners removes references, judged by UID.
func (c *controller) dropOwners(ctx context.Context, r *resource, obj kinds.Object, drop []metav1.OwnerReference) error {
	if len(drop) == 0 {
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(obj.GetOwnerReferences()), func(ref metav1.OwnerReference) bool {
		return slices.ContainsFunc(drop, func(d metav1.OwnerReference) bool { return d.UID == ref.UID })
	})
	if len(kept) == len(obj.GetOwnerReferences()) {
		return nil
	}
	return c.patch(ctx, r, obj, map[string]any{"ownerReferences": kept})
}

// unblock withdraws blockOwnerDeletion, to break a circle of foreground deletions.
func (c *controller) unblock(ctx context.Context, r *resource, obj kinds.Object) error {
	refs := slices.Clone(obj.GetOwnerReferences())
	for i := range refs {
		refs[i].BlockOwnerDeletion = new(bool)
	}
	return c.patch(ctx, r, obj, map[string]any{"ownerReferences": refs})
}

// patch merges metadata into exactly the state that was read: lists are replaced whole, so a later writer wins.
func (c *controller) patch(ctx context.Context, r *resource, obj kinds.Object, metadata map[string]any) error {
	metadata["resourceVersion"], metadata["uid"] = obj.GetResourceVersion(), obj.GetUID()
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	_, err = r.api.Patch(ctx, obj.GetNamespace(), obj.GetName(), types.MergePatchType, data)
	return c.ignoreGone(ctx, r, obj, err)
}

func (c *controller) remove(ctx context.Context, r *resource, obj kinds.Object, policy metav1.DeletionPropagation) error {
	uid, version := obj.GetUID(), obj.GetResourceVersion()
	err := r.api.Delete(ctx, obj.GetNamespace(), obj.GetName(), metav1.DeleteOptions{
		PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
	})
	return c.ignoreGone(ctx, r, obj, err)
}

// ignoreGone forgives a write to an object that does not exist any more.
func (c *controller) ignoreGone(ctx context.Context, r *resource, obj kinds.Object, err error) error {
	if !apierrors.IsNotFound(err) {
		return err
	}
	id := graph.Identity{Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID()}
	if now, unsure := c.get(ctx, r, id); now != nil || unsure != nil {
		return errors.Join(err, unsure)
	}
	return nil
}
