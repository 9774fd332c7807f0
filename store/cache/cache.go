// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
)

// Errors of caches and watchers; compare with errors.Is.
var (
	// ErrNotReady is returned by reads and watches before the cache has listed its prefix for the first time.
	ErrNotReady = errors.New("watch cache is not ready")
	// ErrEnded is returned by watchers (and Watch) when the cache was closed or its feed has ended.
	ErrEnded = errors.New("watch cache has ended")
)

// Config of a Cache.
type Config struct {
	// Feed that brings the changes. Required.
	Feed *Feed
	// Prefix of the keys, with a slash at the end ("/registry/pods/"). Required.
	Prefix string
	// Decode makes the object of a stored value; its resourceVersion is revision. It must be a function of its arguments
	// only, and must not keep value. Required.
	Decode func(key string, value []byte, revision int64) (kinds.Object, error)
	// Attrs returns the labels and the selectable fields of an object; nil means metadata.name and metadata.namespace.
	Attrs func(kinds.Object) (labels.Set, fields.Set)
	// IndexField is the selectable field that WatchOptions.Index selects by ("spec.nodeName"); empty means none.
	IndexField string
	// Index reads the value of IndexField from a stored value without decoding it, and returns false where it can't; then, or when it is
	// nil, the object's attributes tell. It must not keep value, but what it returns may share its bytes.
	Index func(value []byte) (string, bool)
	// Pack keeps values compressed from soon after they came on, and opens them for each read; what is decoded is not remembered for longer than anybody
	// holds it. It is for what is large and hardly read: while that stayed for some minutes, all that lives long would come to lie between its parts.
	Pack bool
}

func (c *Config) validate() error {
	switch {
	case c.Feed == nil:
		return errors.New("watch cache without a feed")
	case c.Decode == nil:
		return fmt.Errorf("watch cache of %q without a decoder", c.Prefix)
	case !strings.HasPrefix(c.Prefix, c.Feed.prefix) || !strings.HasSuffix(c.Prefix, "/"):
		return fmt.Errorf("watch cache prefix %q is not a folder below %q", c.Prefix, c.Feed.prefix)
	}
	if c.Attrs == nil {
		c.Attrs = metadataAttrs
	}
	return nil
}

func metadataAttrs(obj kinds.Object) (labels.Set, fields.Set) {
	set := fields.Set{"metadata.name": obj.GetName()}
	if ns := obj.GetNamespace(); ns != "" {
		set["metadata.namespace"] = ns
	}
	return obj.GetLabels(), set
}

// Cache holds the objects under one prefix. All methods are safe for concurrent use.
//
// Lock order: Feed.mu, then Cache.mu. Nothing is decoded, sent or called back under mu, but for index values.
type Cache struct {
	feed       *Feed
	prefix     string
	codec      codec
	indexField string
	readIndex  func(value []byte) (string, bool)
	// packing is held while values are packed. It is taken before mu.
	packing sync.Mutex

	mu   sync.RWMutex
	core core
	// listed is the revision that core was last filled at. The feed may still be behind it, and bring what is in core already.
	listed int64
	// listing is set while changes are queued in pending instead of being applied: core is behind the feed.
	listing bool
	pending []store.Event
	// early holds, by key, the entries of changes that core does not have yet: those of the feed on their way into it, and those of which a
	// writer knew first. What a writer derives from an entry is there for everybody then.
	early map[string]*Entry
	// filling is set while the feed has a goroutine that lists the prefix; generation counts the losses of the feed, so that a list begun before
	// one is not taken for good.
	filling    bool
	generation int
	// synced is closed as soon as core follows the feed; nil while it does.
	synced chan struct{}
	// filled is set when core has been filled once.
	filled bool
	ended  bool
	// first calls those who want to know, when there is something, and at the end; nil where nobody does.
	first func()
	// aging runs when the log has changes that will be too old even if no other follows, arrived while there are values that are to be packed, packed while there are
	// some that were and are to be put together.
	aging, arrived, packed *time.Timer

	// waking is apply's buffer; it belongs to the feed's goroutine.
	waking []*Watcher
}

// New makes a cache, which is there until Close. Its feed fills it as soon as it runs, and keeps it current. A feed has one cache of each prefix.
func New(cfg Config) (*Cache, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Cache{
		feed:       cfg.Feed,
		prefix:     cfg.Prefix,
		codec:      codec{decode: cfg.Decode, attrs: cfg.Attrs, budget: cfg.Feed.budget},
		indexField: cfg.IndexField,
		readIndex:  cfg.Index,
		listing:    true,
		synced:     make(chan struct{}),
	}
	c.core = core{prefix: cfg.Prefix, least: logMin, all: scope{all: true}}
	if cfg.IndexField != "" {
		c.core.index = c.index
	}
	if cfg.Pack {
		c.codec.packer = newPacker()
		c.core.least = logMinPacked
	}
	if err := c.feed.attach(c); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the cache, and its watchers with ErrEnded. It may be called more than once.
func (c *Cache) Close() {
	c.feed.detach(c)
	c.end()
}

// Size is the number of objects and of their stored bytes, without looking at the store.
func (c *Cache) Size() (objects int, bytes int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.core.now.len(), c.core.size
}

// NotifyFirst reports whether the cache follows the store and there is nothing in it. Only then notify is called, once, when there is something or the cache has
// ended. It must not block.
func (c *Cache) NotifyFirst(notify func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listing || c.ended || c.core.now.len() > 0 {
		return false
	}
	if before := c.first; before != nil {
		c.first = func() { before(); notify() }
	} else {
		c.first = notify
	}
	return true
}

// firstLocked returns what to call, without the lock, as there is something now, or never will be.
func (c *Cache) firstLocked() (first func()) {
	if c.first == nil || (!c.ended && c.core.now.len() == 0) {
		return func() {}
	}
	first, c.first = c.first, nil
	return first
}

// Watchers is how many watchers may hear of a change under any of these scopes, each a key or a namespace's prefix, besides those who watch all.
func (c *Cache) Watchers(scopes ...string) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := len(c.core.all.watchers)
	for _, name := range scopes {
		if s := c.core.scopes[name]; s != nil {
			n += len(s.watchers)
		}
	}
	return n
}

// Prefix of the cache's keys.
func (c *Cache) Prefix() string { return c.prefix }

// Ready reports whether the cache follows the store.
func (c *Cache) Ready() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return !c.listing
}

// WaitReady waits until the cache follows the store.
func (c *Cache) WaitReady(ctx context.Context) error {
	for {
		c.mu.RLock()
		synced, listing, ended := c.synced, c.listing, c.ended
		c.mu.RUnlock()
		switch {
		case ended:
			return ErrEnded
		case !listing:
			return nil
		}
		select {
		case <-synced:
		case <-ctx.Done():
			return fmt.Errorf("wait for watch cache of %s: %w", c.prefix, context.Cause(ctx))
		}
	}
}

// Revision up to which the cache has seen everything.
func (c *Cache) Revision() int64 {
	seen := c.feed.Revision() // Before the lock: whatever it says has been applied then.
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.seenLocked(seen)
}

// WaitFor waits until the cache has seen a revision.
func (c *Cache) WaitFor(ctx context.Context, revision int64) error {
	if err := c.feed.WaitFor(ctx, revision); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

// Fresh waits until the cache has seen everything that was written before the call, and returns a revision that is at
// least as new. Reads after it are linearizable.
func (c *Cache) Fresh(ctx context.Context) (int64, error) {
	revision, err := c.feed.Fresh(ctx)
	if err != nil {
		return 0, err
	}
	return revision, c.WaitReady(ctx)
}

// end lets everybody who waits for the cache go, and gives back its part of the budget. Who still has the cache finds what it held.
func (c *Cache) end() {
	c.packing.Lock() // Nothing is packed any more when Close returns.
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		c.packing.Unlock()
		return
	}
	c.ended = true
	dead := slices.AppendSeq(c.core.entries(), maps.Values(c.early))
	clear(c.early)
	if c.listing {
		close(c.synced)
	}
	wake, first := c.watchersLocked(), c.firstLocked()
	for _, timer := range []*time.Timer{c.aging, c.arrived, c.packed} {
		if timer != nil {
			timer.Stop()
		}
	}
	c.mu.Unlock()
	c.packing.Unlock()
	wakeAll(wake)
	first()
	for _, e := range dead {
		e.release()
	}
}

// laterLocked calls do so much later, unless that is about to come already; timer is one of the cache's, which do gives back by setting it to nil.
func (c *Cache) laterLocked(timer **time.Timer, after time.Duration, do func()) {
	if *timer == nil && !c.ended {
		*timer = time.AfterFunc(after, do)
	}
}
