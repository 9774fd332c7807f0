// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/kinds"
)

// Handler is told of changes. Each func may be nil. Objects are shared: never change them.
//
// All handlers of an informer run one after the other on its goroutine, in revision order per object, so they must not
// block: enqueue and return. Add is also called for every object that is already known when the handler is added, and
// may be called again as Update with old == new after a relist. Delete gets the last known state, which may be older
// than the one deleted when the deletion was missed during a reconnect.
//
// Synced is called once, after the first full list was delivered.
type Handler[T kinds.Object] struct {
	Add    func(obj T)
	Update func(old, new T)
	Delete func(last T)
	Synced func()
}

// Informer holds the current objects of one resource (or of a selection of it), kept up to date by a watch. Readers get
// shared, immutable objects from a view that lags the API server by as little as the watch does; different informers
// are not synchronised with each other.
type Informer[T kinds.Object] struct {
	resource Resource[T]
	options  Selection
	// trim leaves out of an object what nobody reads here; nil leaves nothing out.
	trim func(T) T

	// delivery is held while handlers are told something, so that each hears of changes in their order. It is taken before mu.
	delivery sync.Mutex

	// What follows is made when it is needed first: of most definitions there are no objects.

	mu       sync.RWMutex
	objects  map[types.NamespacedName]T
	indexes  []index[T]
	handlers []Handler[T]
	room     [1]Handler[T] // for the first of handlers
	version  string        // resourceVersion of the view
	complete bool          // the first list is in the view
	synced   chan struct{} // closed when complete is set; nil before somebody asks
}

// index maps values that an object yields to the keys of the objects that yield them.
type index[T kinds.Object] struct {
	name   string
	values func(T) []string
	keys   map[string]map[types.NamespacedName]struct{}
}

// Selection narrows an informer; the zero value follows everything.
type Selection struct {
	Namespace     string
	FieldSelector string
	LabelSelector string
}

// Get returns one object by key; namespace is empty for cluster-scoped kinds.
func (f *Informer[T]) Get(namespace, name string) (T, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	obj, ok := f.objects[types.NamespacedName{Namespace: namespace, Name: name}]
	return obj, ok
}

// List returns the objects of a namespace, or all when it is empty, in no order.
func (f *Informer[T]) List(namespace string) []T {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if namespace == "" {
		out := make([]T, 0, len(f.objects))
		for _, obj := range f.objects {
			out = append(out, obj)
		}
		return out
	}
	if f.indexLocked(namespaceIndex) == nil {
		f.mu.RUnlock()
		f.AddIndex(namespaceIndex, func(obj T) []string { return []string{obj.GetNamespace()} })
		f.mu.RLock()
	}
	return f.byIndexLocked(namespaceIndex, namespace)
}

// All iterates over a consistent copy of the objects.
func (f *Informer[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, obj := range f.List("") {
			if !yield(obj) {
				return
			}
		}
	}
}

// Len returns how many objects there are.
func (f *Informer[T]) Len() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.objects)
}

// AddIndex makes ByIndex answer for name. Adding the same name again does nothing, so several users may share one.
func (f *Informer[T]) AddIndex(name string, values func(T) []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.indexLocked(name) != nil {
		return
	}
	x := index[T]{name: name, values: values}
	for key, obj := range f.objects {
		x.add(key, obj)
	}
	f.indexes = append(f.indexes, x)
}

// indexLocked returns the named index, or nil.
func (f *Informer[T]) indexLocked(name string) *index[T] {
	for i := range f.indexes {
		if f.indexes[i].name == name {
			return &f.indexes[i]
		}
	}
	return nil
}

// ByIndex returns the objects that yield value in the named index, in no order.
func (f *Informer[T]) ByIndex(name, value string) []T {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.byIndexLocked(name, value)
}

func (f *Informer[T]) byIndexLocked(name, value string) []T {
	x := f.indexLocked(name)
	if x == nil {
		panic(fmt.Sprintf("client: informer of %s has no index %q", f.resource.gvr.Resource, name))
	}
	keys := x.keys[value]
	out := make([]T, 0, len(keys))
	for key := range keys {
		out = append(out, f.objects[key])
	}
	return out
}

// Handle adds a handler. Add is called for what is known, before Handle returns. It must not be called by a handler of the same informer.
func (f *Informer[T]) Handle(h Handler[T]) {
	f.delivery.Lock()
	defer f.delivery.Unlock()
	f.mu.Lock()
	if f.handlers == nil {
		f.handlers = f.room[:0]
	}
	f.handlers = append(f.handlers, h)
	known := make([]T, 0, len(f.objects))
	for _, obj := range f.objects {
		known = append(known, obj)
	}
	complete := f.complete
	f.mu.Unlock()
	if h.Add != nil {
		for _, obj := range known {
			h.Add(obj)
		}
	}
	if complete && h.Synced != nil {
		h.Synced()
	}
}

// Synced is closed once the first list has been delivered.
func (f *Informer[T]) Synced() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.synced == nil {
		f.synced = make(chan struct{})
		if f.complete {
			close(f.synced)
		}
	}
	return f.synced
}

// ResourceVersion returns the version that the view is at; empty before the first list.
func (f *Informer[T]) ResourceVersion() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.version
}

// namespaceIndex is there from the first list of a namespace on.
const namespaceIndex = "namespace"

func (x *index[T]) add(key types.NamespacedName, obj T) {
	if x.keys == nil {
		x.keys = map[string]map[types.NamespacedName]struct{}{}
	}
	for _, v := range x.values(obj) {
		if x.keys[v] == nil {
			x.keys[v] = map[types.NamespacedName]struct{}{}
		}
		x.keys[v][key] = struct{}{}
	}
}

func (x *index[T]) remove(key types.NamespacedName, obj T) {
	for _, v := range x.values(obj) {
		delete(x.keys[v], key)
		if len(x.keys[v]) == 0 {
			delete(x.keys, v)
		}
	}
}

// run follows the resource until ctx ends: list, deliver, watch from there, and again whenever the watch can't go on. It returns before where there are no objects
// and the backend will call first when there are.
func (f *Informer[T]) run(ctx context.Context, first func(), report func(err error, attempt int)) {
	const least, most = 50 * time.Millisecond, 30 * time.Second
	delay, attempt := least, 0
	for ctx.Err() == nil {
		began := time.Now()
		empty, err := f.follow(ctx, first)
		if empty || ctx.Err() != nil {
			return
		}
		if time.Since(began) > most {
			delay, attempt = least, 0
		}
		if err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			continue
		}
		attempt++
		report(fmt.Errorf("follow %s: %w", f.resource.gvr.Resource, err), attempt)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, most)
	}
}

// follow lists once and watches until the watch can't be continued from its last version; or does not watch, as the list is empty and first will be called.
func (f *Informer[T]) follow(ctx context.Context, first func()) (empty bool, err error) {
	list, err := f.resource.List(ctx, f.options.Namespace, metav1.ListOptions{
		FieldSelector: f.options.FieldSelector, LabelSelector: f.options.LabelSelector,
	})
	if err != nil {
		return false, err
	}
	f.replace(list.Items, list.ResourceVersion)
	f.completed()
	if len(list.Items) == 0 && f.notifyFirst(ctx, first) {
		return true, nil
	}
	for ctx.Err() == nil {
		if err := f.watchOnce(ctx); err != nil {
			return false, err
		}
	}
	return false, nil
}

// notifyFirst reports whether nothing need run until notify is called, as there are no objects.
func (f *Informer[T]) notifyFirst(ctx context.Context, notify func()) bool {
	backend, ok := f.resource.backend.(FirstNotifier)
	return ok && f.options == (Selection{}) && backend.NotifyFirst(ctx, f.resource.request(Watch, "", ""), notify)
}

// completed tells, once, that the first list is in the view.
func (f *Informer[T]) completed() {
	f.delivery.Lock()
	defer f.delivery.Unlock()
	f.mu.Lock()
	first, handlers := !f.complete, f.handlers
	f.complete = true
	if first && f.synced != nil {
		close(f.synced)
	}
	f.mu.Unlock()
	if !first {
		return
	}
	for _, h := range handlers {
		if h.Synced != nil {
			h.Synced()
		}
	}
}

// watchOnce runs one watch; nil means that it ended in order and may be resumed.
func (f *Informer[T]) watchOnce(ctx context.Context) error {
	stream, err := f.resource.Watch(ctx, f.options.Namespace, metav1.ListOptions{
		FieldSelector: f.options.FieldSelector, LabelSelector: f.options.LabelSelector,
		ResourceVersion: f.ResourceVersion(), AllowWatchBookmarks: true,
	})
	if err != nil {
		return err
	}
	defer stream.Stop()
	if p, ok := stream.(Puller); ok {
		return f.pull(p) // which ends with ctx
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-stream.Events():
			if !ok {
				return nil
			}
			if err := f.apply(event); err != nil {
				return err
			}
		}
	}
}

// pull applies a stream's events until it ends.
func (f *Informer[T]) pull(stream Puller) error {
	for more := true; more; {
		var events []watch.Event
		events, more = stream.Next()
		for _, event := range events {
			if err := f.apply(event); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Informer[T]) apply(event watch.Event) error {
	if event.Type == watch.Error {
		return apierrors.FromObject(event.Object)
	}
	obj, ok := event.Object.(T)
	if !ok {
		return fmt.Errorf("watch delivered a %T", event.Object)
	}
	version := obj.GetResourceVersion()
	if f.trim != nil && event.Type != watch.Bookmark {
		obj = f.trim(obj)
	}
	switch event.Type {
	case watch.Added, watch.Modified:
		f.put(obj)
	case watch.Deleted:
		f.drop(types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}, obj)
	case watch.Bookmark, watch.Error: // a bookmark only moves the version
	}
	f.mu.Lock()
	f.version = version
	f.mu.Unlock()
	return nil
}

func (f *Informer[T]) put(obj T) {
	key := types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
	f.delivery.Lock()
	defer f.delivery.Unlock()
	f.mu.Lock()
	if f.objects == nil {
		f.objects = map[types.NamespacedName]T{}
	}
	old, had := f.objects[key]
	f.objects[key] = obj
	for i := range f.indexes {
		if had {
			f.indexes[i].remove(key, old)
		}
		f.indexes[i].add(key, obj)
	}
	handlers := f.handlers
	f.mu.Unlock()
	for _, h := range handlers {
		switch {
		case had && h.Update != nil:
			h.Update(old, obj)
		case !had && h.Add != nil:
			h.Add(obj)
		}
	}
}

// drop removes key; last is the state to report, or the known one when it is nil in interface terms.
func (f *Informer[T]) drop(key types.NamespacedName, last T) {
	f.delivery.Lock()
	defer f.delivery.Unlock()
	f.mu.Lock()
	old, had := f.objects[key]
	if had {
		delete(f.objects, key)
		for i := range f.indexes {
			f.indexes[i].remove(key, old)
		}
	}
	handlers := f.handlers
	f.mu.Unlock()
	if !had {
		return
	}
	for _, h := range handlers {
		if h.Delete != nil {
			h.Delete(last)
		}
	}
}

// replace makes the view equal to a list, delivering the differences.
func (f *Informer[T]) replace(items []T, version string) {
	listed := make(map[types.NamespacedName]struct{}, len(items))
	for _, obj := range items {
		if f.trim != nil {
			obj = f.trim(obj)
		}
		key := types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
		listed[key] = struct{}{}
		if known, ok := f.Get(key.Namespace, key.Name); ok && known.GetUID() != obj.GetUID() {
			f.drop(key, known)
		}
		f.put(obj)
	}
	f.mu.RLock()
	var gone []T
	for key, obj := range f.objects {
		if _, ok := listed[key]; !ok {
			gone = append(gone, obj)
		}
	}
	f.mu.RUnlock()
	for _, obj := range gone {
		f.drop(types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}, obj)
	}
	f.mu.Lock()
	f.version = version
	f.mu.Unlock()
}

// runner is what Informers knows of an informer of any type.
type runner interface {
	run(ctx context.Context, first func(), report func(err error, attempt int))
	Synced() <-chan struct{}
}

var _ runner = (*Informer[kinds.Object])(nil)
