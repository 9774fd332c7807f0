// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package objects follows single objects by name for as long as somebody needs them: the config maps and secrets of a node's
// pods. A node may not list all secrets, but it may watch each one that its pods refer to.
package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Cache follows the objects of one resource that owners hold. It is safe for concurrent use.
type Cache[T kinds.Object] struct {
	resource client.Resource[T]
	log      *slog.Logger
	// changed is told of every object that was added, changed or removed after its first read. It must not block.
	changed func(namespace, name string, owners []types.UID)
	// final reports that an object will never change again, so that its watch can end; nil means never.
	final func(T) bool

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // lent by Run: watches begin when owners come
	entries map[types.NamespacedName]*entry[T]
	wg      sync.WaitGroup
}

// entry is one followed object.
type entry[T kinds.Object] struct {
	owners map[types.UID]bool
	cancel context.CancelFunc
	// known is closed once object and exists hold; guarded by the cache's mutex after that.
	known  chan struct{}
	seen   bool
	object T
	exists bool
}

// New makes a cache; it follows nothing before Run.
func New[T kinds.Object](resource client.Resource[T], log *slog.Logger, changed func(namespace, name string, owners []types.UID), final func(T) bool) *Cache[T] {
	return &Cache[T]{resource: resource, log: log, changed: changed, final: final, entries: map[types.NamespacedName]*entry[T]{}}
}

// Run lends the context under which objects are followed, and returns when it has ended and all watches with it.
func (c *Cache[T]) Run(ctx context.Context) {
	c.mu.Lock()
	c.ctx = ctx
	for key, e := range c.entries {
		c.followLocked(key, e)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.wg.Wait()
}

// Hold makes owner hold exactly these names of a namespace.
func (c *Cache[T]) Hold(owner types.UID, namespace string, names map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range names {
		key := types.NamespacedName{Namespace: namespace, Name: name}
		e := c.entries[key]
		if e == nil {
			e = &entry[T]{owners: map[types.UID]bool{}, known: make(chan struct{})}
			c.entries[key] = e
			c.followLocked(key, e)
		}
		e.owners[owner] = true
	}
	for key, e := range c.entries {
		if !e.owners[owner] || key.Namespace == namespace && names[key.Name] {
			continue
		}
		delete(e.owners, owner)
		if len(e.owners) == 0 {
			if e.cancel != nil {
				e.cancel()
			}
			delete(c.entries, key)
		}
	}
}

// Release lets go of all that owner holds.
func (c *Cache[T]) Release(owner types.UID) { c.Hold(owner, "", nil) }

// Get returns an object that is held, waiting for the first read of it, or a NotFound error. What is not held is read.
func (c *Cache[T]) Get(ctx context.Context, namespace, name string) (T, error) {
	var none T
	key := types.NamespacedName{Namespace: namespace, Name: name}
	c.mu.Lock()
	e := c.entries[key]
	c.mu.Unlock()
	if e == nil {
		return c.resource.Get(ctx, namespace, name)
	}
	select {
	case <-e.known:
	case <-ctx.Done():
		return none, fmt.Errorf("wait for %s %s: %w", c.resource.GVR().Resource, key, ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.exists {
		return none, apierrors.NewNotFound(schema.GroupResource{Resource: singular(c.resource.GVR().Resource)}, name)
	}
	return e.object, nil
}

// singular makes the message say "configmap", as a pod's events do.
func singular(resource string) string {
	if n := len(resource); n > 0 && resource[n-1] == 's' {
		return resource[:n-1]
	}
	return resource
}

func (c *Cache[T]) followLocked(key types.NamespacedName, e *entry[T]) {
	if c.ctx == nil || c.ctx.Err() != nil || e.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	e.cancel = cancel
	c.wg.Go(func() {
		defer cancel()
		c.follow(ctx, key, e)
	})
}

// follow keeps an entry up to date until it is released or final.
func (c *Cache[T]) follow(ctx context.Context, key types.NamespacedName, e *entry[T]) {
	delay := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := c.followOnce(ctx, key, e)
		if ctx.Err() != nil || errors.Is(err, errFinal) {
			return
		}
		if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			c.log.Debug("watch of one object failed", "object", key.String(), "err", err)
		}
		if time.Since(began) > 30*time.Second {
			delay = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, 10*time.Second)
	}
}

var errFinal = fmt.Errorf("object is immutable")

func (c *Cache[T]) followOnce(ctx context.Context, key types.NamespacedName, e *entry[T]) error {
	selector := "metadata.name=" + key.Name
	list, err := c.resource.List(ctx, key.Namespace, metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		return err
	}
	if len(list.Items) > 0 {
		c.set(key, e, list.Items[0], true)
		if c.final != nil && c.final(list.Items[0]) {
			return errFinal
		}
	} else {
		var none T
		c.set(key, e, none, false)
	}
	version := list.ResourceVersion
	for ctx.Err() == nil {
		stream, err := c.resource.Watch(ctx, key.Namespace, metav1.ListOptions{FieldSelector: selector, ResourceVersion: version, AllowWatchBookmarks: true})
		if err != nil {
			return err
		}
		version, err = c.consume(ctx, key, e, stream, version)
		stream.Stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache[T]) consume(ctx context.Context, key types.NamespacedName, e *entry[T], stream client.Stream, version string) (string, error) {
	for {
		select {
		case <-ctx.Done():
			return version, nil
		case event, ok := <-stream.Events():
			if !ok {
				return version, nil
			}
			if event.Type == watch.Error {
				return version, apierrors.FromObject(event.Object)
			}
			obj, ok := event.Object.(T)
			if !ok {
				return version, fmt.Errorf("watch delivered a %T", event.Object)
			}
			version = obj.GetResourceVersion()
			switch event.Type {
			case watch.Added, watch.Modified:
				c.set(key, e, obj, true)
				if c.final != nil && c.final(obj) {
					return version, errFinal
				}
			case watch.Deleted:
				var none T
				c.set(key, e, none, false)
			case watch.Bookmark, watch.Error:
			}
		}
	}
}

func (c *Cache[T]) set(key types.NamespacedName, e *entry[T], obj T, exists bool) {
	c.mu.Lock()
	first := !e.seen
	same := e.exists == exists && (!exists || e.object.GetResourceVersion() == obj.GetResourceVersion())
	e.object, e.exists, e.seen = obj, exists, true
	owners := make([]types.UID, 0, len(e.owners))
	for uid := range e.owners {
		owners = append(owners, uid)
	}
	c.mu.Unlock()
	if first {
		close(e.known)
		return
	}
	if !same && c.changed != nil {
		c.changed(key.Namespace, key.Name, owners)
	}
}
