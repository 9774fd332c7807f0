// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
)

// Config of an Engine. Store, Kinds, Logger and Types are required.
type Config struct {
	Store  store.Store
	Kinds  []*kinds.Kind
	Logger *slog.Logger
	// Types gives the schemas of built-in types for server-side apply; it is called on first use.
	Types func() (managedfields.TypeConverter, error)
	// Services configures the allocation of Service addresses and ports; the zero value refuses none and allocates none.
	Services ServiceConfig
}

// Virtual answers a create that stores nothing.
type Virtual func(ctx context.Context, obj runtime.Object) (runtime.Object, error)

// Parts are what the engine gets once it can be read from: admission plugins, for instance, read its caches.
type Parts struct {
	Plugins    []admission.Plugin
	Authorizer authz.Authorizer
	// Virtual by resource or resource/subresource.
	Virtual map[schema.GroupResource]Virtual
	// Judges validate the objects of resources whose descriptors can't.
	Judges map[schema.GroupResource]Judge
}

// Judge validates the objects of a resource in place of its descriptor, where that may not reach all that is needed for it. It returns what is wrong
// with obj, which is new, or replaces old.
type Judge func(ctx context.Context, req kinds.Request, obj, old kinds.Object) field.ErrorList

// faults returns what is wrong with an object of the main resource, but for its metadata; old is nil for a new one.
func (e *Engine) faults(ctx context.Context, c *Call, req kinds.Request, obj, old kinds.Object) field.ErrorList {
	switch judge := e.parts.Load().Judges[c.Target.GVR.GroupResource()]; {
	case judge != nil:
		return judge(ctx, req, obj, old)
	case old == nil:
		return c.Target.validate(req, obj)
	}
	return c.Target.validateUpdate(nil, req, obj, old)
}

// Engine executes Calls. It is safe for concurrent use.
type Engine struct {
	store    store.Store
	feed     *cache.Feed
	log      *slog.Logger
	types    func() (managedfields.TypeConverter, error)
	parts    atomic.Pointer[Parts]
	services *services

	// targets is what is served, replaced whole at each change.
	targets atomic.Pointer[map[schema.GroupVersionResource]*Target]
	// ready is closed when the caches of all built-in kinds are filled.
	ready chan struct{}

	mu      sync.Mutex
	bound   map[schema.GroupResource]*bound
	caches  map[string]*cache.Cache // by prefix
	running bool
}

// bound is a resource with its cache.
type bound struct {
	*Resource
	// prefix is the store's key prefix, with slashes at both ends.
	prefix string
	cache  *cache.Cache // nil for virtual resources
	// transcriber writes what is stored in JSON; nil for custom resources, and for what is stored packed: to tell whether it may, the object is made, and encoded.
	transcriber func() *codec.Transcriber
	// transcribed counts for the sampled checks of the invariants build.
	transcribed atomic.Uint32
}

// key of one object.
func (b *bound) key(namespace, name string) string {
	if b.Kind.Namespaced {
		return b.prefix + namespace + "/" + name
	}
	return b.prefix + name
}

// Target is a resource at one of its versions.
type Target struct {
	*bound
	GVR    schema.GroupVersionResource
	Served *kinds.Served

	// json names the encoding in JSON at the target's version, once somebody has asked for it: that is with every event of every watch.
	json     atomic.Pointer[string]
	managers sync.Map // subresource to *managerSlot
}

// NewEngine makes an engine that serves the built-in kinds. Nothing can be read before Run has filled the caches.
func NewEngine(cfg Config) (*Engine, error) {
	feed, err := cache.NewFeed(cache.FeedConfig{Store: cfg.Store, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	e := &Engine{
		store: cfg.Store, feed: feed, log: cfg.Logger, types: sync.OnceValues(cfg.Types), ready: make(chan struct{}),
		bound: map[schema.GroupResource]*bound{}, caches: map[string]*cache.Cache{},
	}
	e.parts.Store(&Parts{})
	e.targets.Store(&map[schema.GroupVersionResource]*Target{})
	if e.services, err = newServices(e, cfg.Services); err != nil {
		return nil, err
	}
	for _, k := range cfg.Kinds {
		if err := e.bind(&Resource{Kind: k}, nil); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Configure sets the parts that depend on the engine. It is called once, before the first request.
func (e *Engine) Configure(p Parts) { e.parts.Store(&p) }

// bind makes the cache of a resource and publishes its targets, in place of those of the resource that it replaces, if any.
func (e *Engine) bind(r *Resource, replaced *bound) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := &bound{Resource: r, prefix: "/registry/" + r.Kind.Storage.Prefix + "/"}
	if r.Custom == nil && !r.Kind.Storage.Packed {
		b.transcriber = sync.OnceValue(func() *codec.Transcriber {
			return codec.NewTranscriber(r.Kind.Storage.New(), r.Kind.Storage.GroupVersionKind)
		})
	}
	if r.stored() {
		c, ok := e.caches[b.prefix]
		if !ok {
			var err error
			if c, err = cache.New(cache.Config{
				Feed: e.feed, Prefix: b.prefix, Decode: b.decode, Attrs: r.attrs, IndexField: indexField(b.prefix), Index: nodeNameOf,
				Pack: r.Kind.Storage.Packed,
			}); err != nil {
				return err
			}
			e.caches[b.prefix] = c
		}
		b.cache = c
	}
	next := maps.Clone(*e.targets.Load())
	maps.DeleteFunc(next, func(_ schema.GroupVersionResource, t *Target) bool { return replaced != nil && t.bound == replaced })
	targets := make([]Target, len(r.Kind.Served))
	for i := range targets {
		t := &targets[i]
		t.bound, t.Served = b, &r.Kind.Served[i]
		t.GVR = t.Served.GroupVersion().WithResource(r.Kind.Resource)
		next[t.GVR] = t
		e.bound[t.GVR.GroupResource()] = b
	}
	e.targets.Store(&next)
	return nil
}

func indexField(prefix string) string {
	if prefix == "/registry/pods/" {
		return "spec.nodeName"
	}
	return ""
}

// nodeNameOf reads spec.nodeName of a stored pod, the only resource with an index. The numbers are of k8s.io/api/core/v1/generated.proto.
func nodeNameOf(value []byte) (string, bool) {
	const spec, nodeName = 2, 10
	return codec.StoredText(value, spec, nodeName)
}

// Add serves a custom resource, or replaces its description; it returns when the resource can be read. Versions that a replaced
// description had and the new one has not are no longer served. Between the two, lists and watches are told to come again.
func (e *Engine) Add(ctx context.Context, r *Resource) error {
	e.mu.Lock()
	old := e.bound[r.GroupResource()]
	if old != nil && old.Custom == nil {
		e.mu.Unlock()
		return fmt.Errorf("resource %s is built in", r.GroupResource())
	}
	if old != nil {
		// The cache decodes with the description that it was made with: a new description needs a new cache.
		e.retireLocked(old)
	}
	e.mu.Unlock()
	if old != nil {
		old.close()
	}
	if err := e.bind(r, old); err != nil {
		return err
	}
	e.mu.Lock()
	b, running := e.bound[r.GroupResource()], e.running
	e.mu.Unlock()
	if b.cache == nil || !running {
		return nil
	}
	return b.cache.WaitReady(ctx)
}

// Remove stops serving a custom resource. Its watches end.
func (e *Engine) Remove(gr schema.GroupResource) {
	e.mu.Lock()
	b := e.bound[gr]
	if b == nil || b.Custom == nil {
		e.mu.Unlock()
		return
	}
	next := maps.Clone(*e.targets.Load())
	maps.DeleteFunc(next, func(_ schema.GroupVersionResource, t *Target) bool { return t.bound == b })
	e.targets.Store(&next)
	e.retireLocked(b)
	e.mu.Unlock()
	b.close()
}

// retireLocked frees the names of a custom resource; its targets are the caller's to take away, and it is the caller's to close.
func (e *Engine) retireLocked(b *bound) {
	delete(e.bound, b.GroupResource())
	delete(e.caches, b.prefix)
}

// close ends the cache of a resource.
func (b *bound) close() {
	if b.cache != nil {
		b.cache.Close()
	}
}

// Run keeps the caches until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.running {
		e.mu.Unlock()
		return errors.New("rest engine runs already")
	}
	e.running = true
	caches := slices.Collect(maps.Values(e.caches))
	e.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for _, c := range caches {
			if c.WaitReady(ctx) != nil {
				return
			}
		}
		close(e.ready)
	})
	_ = e.feed.Run(ctx) // Its error is that of ctx.
	return nil
}

// Ready is closed once all built-in resources can be read.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Lookup returns the target of a resource at a version, or nil.
func (e *Engine) Lookup(gvr schema.GroupVersionResource) *Target { return (*e.targets.Load())[gvr] }

// Size is the number of stored objects of a resource and of their bytes; 0 for one that is not stored here.
func (e *Engine) Size(gvr schema.GroupVersionResource) (objects int, bytes int64) {
	if t := e.Lookup(gvr); t != nil && t.bound != nil && t.cache != nil {
		return t.cache.Size()
	}
	return 0, 0
}

// Sizes calls fn with what Size says of each stored resource, once for all its versions, in no order.
func (e *Engine) Sizes(fn func(gr schema.GroupResource, objects int, bytes int64)) {
	seen := map[schema.GroupResource]bool{}
	for gvr, t := range *e.targets.Load() {
		if gr := gvr.GroupResource(); t.bound != nil && t.cache != nil && !seen[gr] {
			seen[gr] = true
			objects, bytes := t.cache.Size()
			fn(gr, objects, bytes)
		}
	}
}

// Watchers is how many watchers hear of a change of an object, as far as it is named; those of one value of an indexed field are not counted.
func (e *Engine) Watchers(gvr schema.GroupVersionResource, namespace, name string) int {
	t := e.Lookup(gvr)
	if t == nil || t.bound == nil || t.cache == nil {
		return 0
	}
	var scopes []string
	if t.Kind.Namespaced && namespace != "" {
		scopes = append(scopes, t.prefix+namespace+"/")
	}
	if name != "" {
		scopes = append(scopes, t.key(namespace, name))
	}
	return t.cache.Watchers(scopes...)
}

// NotifyFirst is that of the target's cache.
func (t *Target) NotifyFirst(notify func()) bool {
	return t.cache != nil && t.cache.NotifyFirst(notify)
}

// Targets returns everything that is served. The map must not be changed.
func (e *Engine) Targets() map[schema.GroupVersionResource]*Target { return *e.targets.Load() }

// Fresh waits until the caches show everything that was written before the call.
func (e *Engine) Fresh(ctx context.Context) error {
	_, err := e.feed.Fresh(ctx)
	return err
}

// Revision of the caches: everything up to it is visible.
func (e *Engine) Revision() int64 { return e.feed.Revision() }
