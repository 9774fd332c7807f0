// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
)

// Errors of caches and watchers; compare with errors.Is.
var (
	// ErrNotReady is returned by reads and watches before the cache has listed its prefix for the first time.
	ErrNotReady = errors.New("watch cache is not ready")
	// ErrEnded is returned by watchers (and Watch) when the cache's Run has ended.
	ErrEnded = errors.New("watch cache has ended")
)

// pageSize of the lists that fill a cache.
const pageSize = 1000

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
	codec      *codec
	indexField string
	log        *slog.Logger
	// resync holds a token when the feed has lost changes and the prefix must be listed again.
	resync chan struct{}
	// indexed mirrors core.indexed, so that the feed's goroutine knows whether to decode ahead.
	indexed atomic.Int64

	mu   sync.RWMutex
	core *core
	// listing is set while changes are queued in pending instead of being applied: core is behind the feed.
	listing bool
	pending []store.Event
	// generation counts the losses of the feed, so that a list begun before one is not taken for good.
	generation int
	// synced is closed while core follows the feed.
	synced chan struct{}
	// filled is set when core has been filled once.
	filled bool
	ended  bool

	// waking is apply's buffer; it belongs to the feed's goroutine.
	waking []*Watcher
}

// New makes a cache; it is empty until Run.
func New(cfg Config) (*Cache, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Cache{
		feed:       cfg.Feed,
		prefix:     cfg.Prefix,
		codec:      &codec{decode: cfg.Decode, attrs: cfg.Attrs, budget: cfg.Feed.budget},
		indexField: cfg.IndexField,
		log:        cfg.Feed.log.With("prefix", cfg.Prefix),
		resync:     make(chan struct{}, 1),
		listing:    true,
		synced:     make(chan struct{}),
	}
	c.core = newCore(cfg.Prefix, c.index)
	return c, nil
}

// Run fills the cache and keeps it current until ctx ends; then its watchers end with ErrEnded. It is called once.
func (c *Cache) Run(ctx context.Context) error {
	defer c.end()
	if err := c.feed.WaitFor(ctx, 1); err != nil {
		return err
	}
	if err := c.feed.attach(c); err != nil {
		return err
	}
	defer c.feed.detach(c)
	var wait backoff
	for {
		err := c.fill(ctx)
		if err == nil {
			wait.reset()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.resync:
				continue
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.log.Info("list for watch cache", "err", err)
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
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

// Get returns the entry of a key and the revision of the answer. The error is store.ErrNotFound where there is none (the
// revision is valid then, too), or ErrNotReady.
func (c *Cache) Get(key string) (*Entry, int64, error) {
	seen := c.feed.Revision()
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.filled {
		return nil, 0, ErrNotReady
	}
	found, ok := c.core.tree.Get(item{key: key})
	if !ok {
		return nil, c.seenLocked(seen), store.ErrNotFound
	}
	return found.entry, c.seenLocked(seen), nil
}

// Entry returns the entry of a record that was read from the store: the cached one if it is of the same revision.
func (c *Cache) Entry(r store.Record) *Entry {
	if e, _, err := c.Get(r.Key); err == nil && e.Revision == r.ModRevision {
		return e
	}
	e := newEntry(c.codec, r)
	e.dead.Store(true) // The budget is for entries that others can find.
	return e
}

// Snapshot returns the current content, or ErrNotReady.
func (c *Cache) Snapshot() (*Snapshot, error) {
	seen := c.feed.Revision()
	c.mu.RLock()
	filled, tree := c.filled, c.core.current
	s := &Snapshot{Revision: c.seenLocked(seen), prefix: c.prefix, base: c.core.revision, tree: tree}
	c.mu.RUnlock()
	if !filled {
		return nil, ErrNotReady
	}
	if tree != nil {
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshotLocked(seen), nil
}

func (c *Cache) snapshotLocked(seen int64) *Snapshot {
	return &Snapshot{Revision: c.seenLocked(seen), prefix: c.prefix, base: c.core.revision, tree: c.core.snapshot()}
}

// seenLocked is the revision that the content stands for, given what the feed's revision was before the lock.
func (c *Cache) seenLocked(seen int64) int64 {
	if c.listing {
		return c.core.revision
	}
	return max(c.core.revision, seen)
}

// List returns entries in key order. A Revision in the future is waited for.
func (c *Cache) List(ctx context.Context, opts ListOptions) (Page, error) {
	if opts.Revision == 0 {
		s, err := c.Snapshot()
		if err != nil {
			return Page{}, err
		}
		return c.page(s, opts), nil
	}
	if opts.Revision > c.Revision() {
		if err := c.WaitFor(ctx, opts.Revision); err != nil {
			return Page{}, err
		}
	}
	c.mu.Lock()
	filled := c.filled
	var tree *btree.BTreeG[item]
	if filled {
		tree = c.core.at(opts.Revision, time.Now())
	}
	c.mu.Unlock()
	switch {
	case !filled:
		return Page{}, ErrNotReady
	case tree == nil:
		return c.listStore(ctx, opts)
	}
	s := &Snapshot{Revision: opts.Revision, prefix: c.prefix, base: opts.Revision, tree: tree}
	return c.page(s, opts), nil
}

// page answers from a snapshot and keeps it when there is a next page.
func (c *Cache) page(s *Snapshot, opts ListOptions) Page {
	page := s.page(opts)
	if page.Next != "" {
		c.mu.Lock()
		c.core.hold(s.tree, s.base, time.Now())
		c.mu.Unlock()
	}
	return page
}

// listStore answers from the store, for revisions that the cache knows no more.
func (c *Cache) listStore(ctx context.Context, opts ListOptions) (Page, error) {
	page := Page{Revision: opts.Revision}
	read := store.ListOptions{Prefix: opts.Prefix, From: opts.From, Revision: opts.Revision}
	if read.Prefix == "" {
		read.Prefix = c.prefix
	}
	for {
		read.Limit = pageSize
		if opts.Limit > 0 && opts.Filter == nil {
			read.Limit = int64(opts.Limit)
		}
		got, err := c.feed.store.List(ctx, read)
		if err != nil {
			return Page{}, fmt.Errorf("list %s at revision %d: %w", read.Prefix, opts.Revision, err)
		}
		for _, r := range got.Records {
			if opts.Limit > 0 && len(page.Entries) == opts.Limit {
				page.Next, page.Remaining = r.Key, -1
				return page, nil
			}
			if e := c.Entry(r); opts.Filter == nil || opts.Filter(e) {
				page.Entries = append(page.Entries, e)
			}
			read.From = r.Key + "\x00"
		}
		switch {
		case got.Remaining == 0:
			return page, nil
		case opts.Limit > 0 && opts.Filter == nil:
			page.Next, page.Remaining = read.From, got.Remaining
			return page, nil
		}
	}
}

// fill lists the prefix and then follows the feed. What the feed brings in between waits in pending.
func (c *Cache) fill(ctx context.Context) error {
	c.mu.RLock()
	generation := c.generation
	c.mu.RUnlock()
	var entries []*Entry
	opts := store.ListOptions{Prefix: c.prefix, Limit: pageSize}
	for {
		page, err := c.feed.store.List(ctx, opts)
		if err != nil {
			return fmt.Errorf("list %s: %w", c.prefix, err)
		}
		for _, r := range page.Records {
			entries = append(entries, newEntry(c.codec, r))
		}
		opts.Revision = page.Revision
		if page.Remaining == 0 || len(page.Records) == 0 {
			break
		}
		opts.From = page.Records[len(page.Records)-1].Key + "\x00"
	}
	return c.install(entries, opts.Revision, generation)
}

func (c *Cache) install(entries []*Entry, revision int64, generation int) error {
	c.mu.Lock()
	if c.generation != generation {
		c.mu.Unlock()
		return errors.New("changes were lost meanwhile")
	}
	dead := c.core.replace(entries, revision)
	now := time.Now()
	var touched []*scope
	for _, ev := range c.pending {
		if ev.ModRevision > revision {
			touched = c.core.apply(ev, newEntry(c.codec, ev.Record), now, touched)
		}
	}
	for _, s := range touched {
		s.touched = false
	}
	c.pending, c.listing, c.filled = nil, false, true
	close(c.synced)
	wake := c.watchersLocked()
	c.mu.Unlock()
	wakeAll(wake)
	for _, e := range dead {
		e.release()
	}
	return nil
}

// apply takes in events of the feed, in order. Only the feed calls it, from one goroutine.
func (c *Cache) apply(events []store.Event, now time.Time) {
	fresh := make([]*Entry, len(events))
	for i, ev := range events {
		fresh[i] = newEntry(c.codec, ev.Record)
	}
	if c.indexed.Load() > 0 {
		c.decodeAhead(fresh)
	}
	c.mu.Lock()
	if c.listing {
		c.pending = append(c.pending, events...)
		c.mu.Unlock()
		return
	}
	var touched []*scope
	for i, ev := range events {
		touched = c.core.apply(ev, fresh[i], now, touched)
	}
	dead := c.core.trim(now)
	for _, s := range touched {
		s.touched = false
		c.waking = append(c.waking, s.watchers...)
	}
	c.mu.Unlock()
	wakeAll(c.waking)
	clear(c.waking)
	c.waking = c.waking[:0]
	for _, e := range dead {
		e.release()
	}
}

// decodeAhead makes the attributes that index needs, outside of the lock.
func (c *Cache) decodeAhead(entries []*Entry) {
	for _, e := range entries {
		c.index(e)
		if old, _, err := c.Get(e.Key); err == nil {
			c.index(old)
		}
	}
}

// index returns the value of the index field; an object that can't be decoded has none.
func (c *Cache) index(e *Entry) string {
	_, set, err := e.Attrs()
	if err != nil {
		return ""
	}
	return set[c.indexField]
}

// stale says that the feed has lost changes: what comes next doesn't follow what the cache holds.
func (c *Cache) stale() {
	c.mu.Lock()
	c.generation++
	c.pending = nil
	if !c.listing {
		c.listing = true
		c.synced = make(chan struct{})
	}
	c.mu.Unlock()
	select {
	case c.resync <- struct{}{}:
	default: // Somebody said so already.
	}
}

// end lets everybody who waits for the cache go.
func (c *Cache) end() {
	c.mu.Lock()
	c.ended = true
	if c.listing {
		close(c.synced)
		c.synced = make(chan struct{})
	}
	wake := c.watchersLocked()
	c.mu.Unlock()
	wakeAll(wake)
}

func (c *Cache) watchersLocked() []*Watcher {
	wake := append([]*Watcher(nil), c.core.all.watchers...)
	for _, s := range c.core.scopes {
		wake = append(wake, s.watchers...)
	}
	return wake
}

func wakeAll(watchers []*Watcher) {
	for _, w := range watchers {
		select {
		case w.wake <- struct{}{}:
		default: // It is to wake already.
		}
	}
}
