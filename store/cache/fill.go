// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kogge.dev/kogge/store"
)

// pageSize of the lists that fill a cache.
const pageSize = 1000

// fill lists until the cache follows the feed, has ended, or ctx ends.
func (c *Cache) fill(ctx context.Context) {
	var wait backoff
	for {
		c.mu.Lock()
		if !c.listing || c.ended || ctx.Err() != nil {
			c.filling = false
			c.mu.Unlock()
			return
		}
		generation := c.generation
		c.mu.Unlock()
		if err := c.list(ctx, generation); err != nil && ctx.Err() == nil {
			c.feed.log.Info("list for watch cache", "prefix", c.prefix, "err", err)
			_ = wait.sleep(ctx) // Its error is that of ctx.
		}
	}
}

// list lists the prefix and then follows the feed. What the feed brings in between waits in pending.
func (c *Cache) list(ctx context.Context, generation int) error {
	var entries []*Entry
	opts := store.ListOptions{Prefix: c.prefix, Limit: pageSize}
	for {
		page, err := c.feed.store.List(ctx, opts)
		if err != nil {
			return fmt.Errorf("list %s: %w", c.prefix, err)
		}
		for _, r := range page.Records {
			entries = append(entries, newEntry(&c.codec, r))
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
	switch {
	case c.ended:
		c.mu.Unlock()
		return nil
	case c.generation != generation:
		c.mu.Unlock()
		return errors.New("changes were lost meanwhile")
	}
	dead := c.core.replace(entries, revision)
	c.listed = revision
	touched, more := c.takeLocked(c.pending, c.arrivingLocked(c.pending), time.Now())
	for _, s := range touched {
		s.touched = false
	}
	dead = append(dead, more...)
	for key, e := range c.early {
		if e.Revision <= revision { // It is in what was listed, or older than that.
			delete(c.early, key)
			dead = append(dead, e)
		}
	}
	c.pending, c.listing, c.filled = nil, false, true
	dead = append(dead, c.trimLocked(time.Now())...)
	c.arrivedLocked()
	close(c.synced)
	c.synced = nil
	wake, first := c.watchersLocked(), c.firstLocked()
	c.mu.Unlock()
	wakeAll(wake)
	first()
	for _, e := range dead {
		e.release()
	}
	return nil
}

// apply takes in events of the feed, in order. Only the feed calls it, from one goroutine.
func (c *Cache) apply(events []store.Event, now time.Time) {
	c.mu.Lock()
	switch {
	case c.ended: // since the feed found it
		c.mu.Unlock()
		return
	case c.listing:
		c.pending = append(c.pending, events...)
		c.mu.Unlock()
		return
	}
	fresh := c.arrivingLocked(events)
	if c.core.indexed > 0 {
		c.mu.Unlock()
		c.decodeAhead(fresh)
		c.mu.Lock()
		if c.ended {
			c.mu.Unlock()
			return
		}
	}
	touched, dead := c.takeLocked(events, fresh, now)
	dead = append(dead, c.trimLocked(now)...)
	c.arrivedLocked()
	for _, s := range touched {
		s.touched = false
		c.tellLocked(s, now)
	}
	first := c.firstLocked()
	c.mu.Unlock()
	wakeAll(c.waking)
	first()
	clear(c.waking)
	c.waking = c.waking[:0]
	for _, e := range dead {
		e.release()
	}
}

// arrivingLocked returns the entries of events.
func (c *Cache) arrivingLocked(events []store.Event) []*Entry {
	fresh := make([]*Entry, len(events))
	for i, ev := range events {
		if ev.Deleted {
			fresh[i] = newEntry(&c.codec, ev.Record)
		} else {
			fresh[i] = c.earlyLocked(ev.Record)
		}
	}
	return fresh
}

// earlyMax bounds early: it is for a moment, not for what the feed never brings.
const earlyMax = 4096

// earlyLocked returns the entry of a record that core does not have yet.
func (c *Cache) earlyLocked(r store.Record) *Entry {
	known := c.early[r.Key]
	if known != nil && known.Revision == r.ModRevision {
		return known
	}
	e := newEntry(&c.codec, r)
	if known == nil && len(c.early) < earlyMax {
		if c.early == nil {
			c.early = map[string]*Entry{}
		}
		c.early[r.Key] = e
	}
	return e
}

// takeLocked takes events, whose entries are fresh, into core. It returns the scopes that they touch, and the entries that nobody will find.
func (c *Cache) takeLocked(events []store.Event, fresh []*Entry, now time.Time) (touched []*scope, dead []*Entry) {
	for i, ev := range events {
		if e := c.early[ev.Key]; e != nil && e.Revision <= ev.ModRevision {
			delete(c.early, ev.Key)
			if e != fresh[i] {
				dead = append(dead, e)
			}
		}
		if ev.ModRevision > c.listed {
			touched = c.core.apply(ev, fresh[i], now, touched)
		} else {
			dead = append(dead, fresh[i])
		}
	}
	return touched, dead
}

// trimLocked drops changes that are too old, and says so if others will be. It returns the entries that nobody can find any more.
func (c *Cache) trimLocked(now time.Time) (dead []*Entry) {
	dead = c.core.trim(now)
	if log := &c.core.log; log.size() > c.core.least {
		c.laterLocked(&c.aging, max(logWindow-now.Sub(log.get(log.first).at), logStep), c.forget)
	}
	return dead
}

// forget drops changes that are too old, also while none follows.
func (c *Cache) forget() {
	c.mu.Lock()
	c.aging = nil
	var dead []*Entry
	if !c.ended {
		dead = c.trimLocked(time.Now())
	}
	c.mu.Unlock()
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
	if c.readIndex != nil {
		if value, ok := c.readIndex(e.Value()); ok {
			return value
		}
	}
	_, set, err := e.Attrs()
	if err != nil {
		return ""
	}
	return set[c.indexField]
}

// stale says that what the feed brings next doesn't follow what the cache holds, if it holds anything. It reports whether fill is to be called.
func (c *Cache) stale() (fill bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.pending = nil
	if !c.listing && !c.ended {
		c.listing = true
		c.synced = make(chan struct{})
	}
	fill = !c.filling && !c.ended
	c.filling = c.filling || fill
	return fill
}

func (c *Cache) watchersLocked() []*Watcher {
	wake := append([]*Watcher(nil), c.core.all.watchers...)
	for _, s := range c.core.scopes {
		wake = append(wake, s.watchers...)
	}
	return wake
}

// Waking many costs more than a change does: a scope's watchers are not woken again before wakeEach for each of them has passed, but for
// no longer than wakeMost. What comes meanwhile they are told at once then. Below wakeLeast nobody waits.
const (
	wakeEach  = 20 * time.Microsecond
	wakeLeast = time.Millisecond
	wakeMost  = 100 * time.Millisecond
)

// tellLocked has a scope's watchers woken: by waking, or by a timer when their time has come.
func (c *Cache) tellLocked(s *scope, now time.Time) {
	if s.waits {
		return
	}
	pause := min(time.Duration(len(s.watchers))*wakeEach, wakeMost)
	left := s.woken.Add(pause).Sub(now)
	if pause < wakeLeast || left <= 0 {
		s.woken = now
		c.waking = append(c.waking, s.watchers...)
		return
	}
	s.waits = true
	time.AfterFunc(left, func() {
		c.mu.Lock()
		s.waits, s.woken = false, time.Now()
		wake := slices.Clone(s.watchers)
		c.mu.Unlock()
		wakeAll(wake)
	})
}

func wakeAll(watchers []*Watcher) {
	for _, w := range watchers {
		w.tell()
	}
}
