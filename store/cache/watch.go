// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"strings"
	"time"

	"kogge.dev/kogge/store"
)

const (
	// batchSize bounds the changes that a watcher reads under the lock at once, and the events of one Next but for a bookmark.
	batchSize = 64
	// bookmarkEvery is the time between bookmarks, and bookmarkBefore how long before the deadline the last one comes.
	bookmarkEvery  = time.Minute
	bookmarkBefore = 2 * time.Second
)

// Watcher delivers the events of one watch. It owns no goroutine and no copy of anything: it is a cursor into the cache's log.
// A slow one holds up nobody; it ends when the log has moved past its cursor. Next is called from one goroutine.
type Watcher struct {
	cache *Cache
	opts  WatchOptions
	// wake has one place: a token means that there may be something to read. More tokens say no more, and are dropped. It is not used where
	// WatchOptions.Woken is set.
	wake chan struct{}
	// timer wakes when a bookmark is due; nil without bookmarks.
	timer *time.Timer

	// scope, place (in scope.watchers) and closed are guarded by cache.mu.
	scope  *scope
	place  int
	closed bool

	// The rest belongs to the caller of Next.

	// initial is the snapshot whose entries are still to be sent, from the key from on.
	initial *Snapshot
	from    string
	cursor  uint64
	changes []*change
	events  []Event
	// drained is set when everything in sight has been read: what comes then is told by wake.
	drained bool
	// bookmark is when the next bookmark is due.
	bookmark time.Time
	// err ended the watch.
	err error
}

// Watch begins a watch. It returns store.ErrCompacted when AfterRevision is older than the log, and never blocks.
func (c *Cache) Watch(opts WatchOptions) (*Watcher, error) {
	if opts.Prefix == "" {
		opts.Prefix = c.prefix
	}
	scopeName := opts.Prefix
	switch {
	case opts.Key != "":
		scopeName = opts.Key
	case opts.Index != "" && c.indexField != "":
		scopeName = indexScope(opts.Index)
	}
	w := &Watcher{cache: c, opts: opts, wake: make(chan struct{}, 1)}
	seen := c.feed.Revision()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return nil, ErrEnded
	case !c.filled:
		return nil, ErrNotReady
	}
	if opts.SendInitialEvents {
		w.initial = c.snapshotLocked(seen)
		w.from = opts.Prefix
		w.opts.AfterRevision = w.initial.base
		w.cursor = c.core.log.next
	} else {
		if opts.AfterRevision < c.core.oldest {
			return nil, fmt.Errorf("watch %s after revision %d: %w", opts.Prefix, opts.AfterRevision, store.ErrCompacted)
		}
		w.cursor = c.core.log.after(opts.AfterRevision)
	}
	w.scope = c.core.join(scopeName, w.cursor)
	w.place = len(w.scope.watchers)
	w.scope.watchers = append(w.scope.watchers, w)
	if opts.Bookmarks {
		now := time.Now()
		w.bookmark = now.Add(bookmarkEvery)
		w.timer = time.AfterFunc(w.due().Sub(now), w.tell)
	}
	return w, nil
}

// tell says that there may be something to read.
func (w *Watcher) tell() {
	if w.opts.Woken != nil {
		w.opts.Woken()
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // It is to wake already.
	}
}

// Close ends the watch. It may be called more than once, and while Next runs (which then returns ErrEnded).
func (w *Watcher) Close() {
	c := w.cache
	c.mu.Lock()
	if !w.closed {
		w.closed = true
		list := w.scope.watchers
		last := list[len(list)-1]
		list[w.place], last.place = last, w.place
		list[len(list)-1] = nil
		w.scope.watchers = list[:len(list)-1]
		c.core.leave(w.scope)
	}
	c.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.tell()
}

// Next waits for events and returns at least one, in revision order. The slice is reused by the next call. An error ends the
// watch: store.ErrCompacted when the watcher was too slow or the cache had to begin anew, ErrEnded when cache or watcher were
// closed, or the context's. It is not for watchers with WatchOptions.Woken.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	for {
		if w.drained && w.err == nil {
			select {
			case <-w.wake:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		select {
		case <-w.wake: // What it tells of is read now.
		default:
		}
		if events, err := w.Poll(ctx); err != nil || len(events) > 0 {
			return events, err
		}
	}
}

// Poll returns the events that there are now, which may be none, as Next does otherwise. Until Drained there may be more.
func (w *Watcher) Poll(ctx context.Context) ([]Event, error) {
	w.events = w.events[:0]
	for w.err == nil {
		if w.initial != nil {
			w.fillInitial()
		} else {
			w.err = w.fill()
		}
		if len(w.events) > 0 {
			return w.events, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if w.drained {
			return nil, w.err
		}
	}
	return nil, w.err
}

// Drained tells whether the last Poll has read all that there was. What comes after it is told.
func (w *Watcher) Drained() bool { return w.drained }

// fillInitial takes the next batch of the initial events.
func (w *Watcher) fillInitial() {
	seen := 0
	if w.opts.Key != "" {
		if e := w.initial.Get(w.opts.Key); e != nil {
			w.addInitial(e)
		}
	} else {
		for e := range w.initial.All(w.opts.Prefix, w.from) {
			if seen == batchSize {
				w.from = e.Key
				return
			}
			seen++
			w.addInitial(e)
		}
	}
	if w.opts.MarkInitialEnd {
		w.events = append(w.events, Event{Type: Bookmark, Revision: w.initial.Revision, InitialEnd: true})
	}
	w.initial = nil
}

func (w *Watcher) addInitial(e *Entry) {
	if w.opts.Filter == nil || w.opts.Filter(e) {
		w.events = append(w.events, Event{Type: Added, Entry: e, Revision: e.Revision})
	}
}

// fill reads changes until some are to be delivered or none are left; when none are left it adds a bookmark, if one is due.
func (w *Watcher) fill() error {
	c := w.cache
	for {
		seen := c.feed.Revision()
		c.mu.RLock()
		if c.ended || w.closed {
			c.mu.RUnlock()
			return ErrEnded
		}
		var ok bool
		w.changes, w.cursor, ok = c.core.read(w.scope, w.cursor, batchSize, w.changes[:0])
		seen = c.seenLocked(seen)
		c.mu.RUnlock()
		if !ok {
			return fmt.Errorf("watch %s fell behind: %w", w.opts.Prefix, store.ErrCompacted)
		}
		for _, ch := range w.changes {
			w.add(ch)
		}
		w.drained = len(w.changes) < batchSize
		clear(w.changes) // They must not stay alive because the watcher is idle.
		if w.drained {
			w.addBookmark(seen) // Also behind events: its timer has told of it, and does not again.
		}
		if w.drained || len(w.events) > 0 {
			return nil
		}
	}
}

// add appends what a change means to this watcher.
func (w *Watcher) add(ch *change) {
	if ch.revision() <= w.opts.AfterRevision || (w.opts.Key == "" && !strings.HasPrefix(ch.entry.Key, w.opts.Prefix)) {
		return
	}
	before := ch.prev != nil && (w.opts.Filter == nil || w.opts.Filter(ch.prev))
	after := !ch.deleted && (w.opts.Filter == nil || w.opts.Filter(ch.entry))
	ev := Event{Entry: ch.entry, Prev: ch.prev, Revision: ch.revision()}
	switch {
	case before && after:
		ev.Type = Modified
	case after:
		ev.Type = Added
	case before && ch.deleted:
		ev.Type = Deleted
	case before:
		ev.Type, ev.Entry = Deleted, ch.leaving()
	default:
		return
	}
	w.events = append(w.events, ev)
}

// due returns when the next bookmark is due.
func (w *Watcher) due() time.Time {
	if !w.opts.Deadline.IsZero() {
		if last := w.opts.Deadline.Add(-bookmarkBefore); last.Before(w.bookmark) && last.After(w.bookmark.Add(-bookmarkEvery)) {
			return last
		}
	}
	return w.bookmark
}

// addBookmark adds one that is due, behind everything up to revision.
func (w *Watcher) addBookmark(revision int64) {
	if !w.opts.Bookmarks {
		return
	}
	now := time.Now()
	if now.Before(w.due()) {
		return
	}
	w.bookmark = now.Add(bookmarkEvery)
	w.timer.Reset(w.due().Sub(now))
	w.events = append(w.events, Event{Type: Bookmark, Revision: max(revision, w.opts.AfterRevision)})
}
