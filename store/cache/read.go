// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"time"

	"kogge.dev/kogge/store"
)

// Get returns the entry of a key and the revision of the answer. The error is store.ErrNotFound where there is none (the
// revision is valid then, too), or ErrNotReady.
func (c *Cache) Get(key string) (*Entry, int64, error) {
	seen := c.feed.Revision()
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.filled {
		return nil, 0, ErrNotReady
	}
	found := c.core.now.get(key)
	if found == nil {
		return nil, c.seenLocked(seen), store.ErrNotFound
	}
	return found, c.seenLocked(seen), nil
}

// Version is another one after each change of what Get and Snapshot show. It is ErrNotReady before there is anything to be seen.
func (c *Cache) Version() (uint64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.filled {
		return 0, ErrNotReady
	}
	return c.core.log.next, nil
}

// Entry returns the entry of a record that was read from the store: the cached one if it is of the same revision.
func (c *Cache) Entry(r store.Record) *Entry {
	if e, _, err := c.Get(r.Key); err == nil && e.Revision == r.ModRevision {
		return e
	}
	return c.apart(r)
}

// apart returns an entry that nobody else finds: the budget is for those that others can find.
func (c *Cache) apart(r store.Record) *Entry {
	e := newEntry(&c.codec, r)
	e.dead.Store(true)
	return e
}

// Written returns the entry of a record that the caller wrote. It is the one that the cache will hold, or holds, where the record is not
// overwritten already.
func (c *Cache) Written(r store.Record) *Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.core.now.get(r.Key); found != nil && found.Revision == r.ModRevision {
		return found
	}
	if !c.filled || c.ended || r.ModRevision <= c.core.revision {
		return c.apart(r)
	}
	return c.earlyLocked(r)
}

// Snapshot returns the current content, or ErrNotReady.
func (c *Cache) Snapshot() (*Snapshot, error) {
	seen := c.feed.Revision()
	c.mu.RLock()
	filled, current := c.filled, c.core.current
	s := &Snapshot{Revision: c.seenLocked(seen), prefix: c.prefix, base: c.core.revision, view: current}
	c.mu.RUnlock()
	if !filled {
		return nil, ErrNotReady
	}
	if current != nil {
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshotLocked(seen), nil
}

func (c *Cache) snapshotLocked(seen int64) *Snapshot {
	return &Snapshot{Revision: c.seenLocked(seen), prefix: c.prefix, base: c.core.revision, view: c.core.snapshot()}
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
	if opts.Index != "" && c.indexField != "" && opts.Revision == 0 && opts.Limit == 0 && opts.From == "" {
		return c.listIndex(opts)
	}
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
	if err := c.readable(ctx, opts.Revision); err != nil {
		return Page{}, err
	}
	c.mu.Lock()
	filled := c.filled
	var found *view
	if filled {
		found = c.core.at(opts.Revision, time.Now())
	}
	c.mu.Unlock()
	switch {
	case !filled:
		return Page{}, ErrNotReady
	case found == nil:
		return c.listStore(ctx, opts)
	}
	s := &Snapshot{Revision: opts.Revision, prefix: c.prefix, base: opts.Revision, view: found}
	return c.page(s, opts), nil
}

// readable returns store.ErrCompacted for a revision that the store has compacted. The cache could answer for many of them, but
// not each server's for the same ones, and a continue token would never end.
func (c *Cache) readable(ctx context.Context, revision int64) error {
	// No key begins like this: the store looks at the revision only.
	_, err := c.feed.store.List(ctx, store.ListOptions{Prefix: c.prefix + "\x00", Limit: 1, Revision: revision})
	if err != nil {
		return fmt.Errorf("list %s at revision %d: %w", c.prefix, revision, err)
	}
	return nil
}

// listIndex answers from the index, as of now.
func (c *Cache) listIndex(opts ListOptions) (Page, error) {
	if opts.Prefix == "" {
		opts.Prefix = c.prefix
	}
	seen := c.feed.Revision()
	c.mu.Lock()
	if !c.filled {
		c.mu.Unlock()
		return Page{}, ErrNotReady
	}
	page := Page{Revision: c.seenLocked(seen)}
	found := c.core.withIndex(opts.Index, opts.Prefix)
	c.mu.Unlock()
	for _, e := range found {
		if opts.Filter == nil || opts.Filter(e) {
			page.Entries = append(page.Entries, e)
		}
	}
	return page, nil
}

// page answers from a snapshot and keeps it when there is a next page.
func (c *Cache) page(s *Snapshot, opts ListOptions) Page {
	page := s.page(opts)
	if page.Next != "" {
		c.mu.Lock()
		c.core.hold(s.view, s.base, time.Now())
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
