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
	// batchSize bounds the changes that a watcher reads under the lock at once, and the events of one Next.
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
	// wake has one place: a token means that there may be something to read. More tokens say no more, and are dropped.
	wake chan struct{}

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
	timer   *time.Timer
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
	if opts.Bookmarks {
		w.bookmark = time.Now().Add(bookmarkEvery)
	}
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
	return w, nil
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
	wakeAll([]*Watcher{w})
}

// Next waits for events and returns at least one, in revision order. The slice is reused by the next call. An error ends the
// watch: store.ErrCompacted when the watcher was too slow or the cache had to begin anew, ErrEnded when cache or watcher were
// closed, or the context's.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	if w.err != nil {
		return nil, w.err
	}
	w.events = w.events[:0]
	for {
		if w.drained {
			if err := w.wait(ctx); err != nil {
				return nil, err
			}
		}
		select {
		case <-w.wake: // What it tells of is read now.
		default:
		}
		if w.initial != nil {
			w.fillInitial()
		} else if err := w.fill(ctx); err != nil {
			w.err = err
			return nil, err
		}
		if len(w.events) > 0 {
			return w.events, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

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

// fill reads changes until some are to be delivered or none are left; then adds a bookmark, when one is due.
func (w *Watcher) fill(ctx context.Context) error {
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
		if len(w.events) > 0 {
			return nil
		}
		if w.drained {
			w.addBookmark(ctx, seen)
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
func (w *Watcher) due(ctx context.Context) time.Time {
	if deadline, ok := ctx.Deadline(); ok {
		if last := deadline.Add(-bookmarkBefore); last.Before(w.bookmark) && last.After(w.bookmark.Add(-bookmarkEvery)) {
			return last
		}
	}
	return w.bookmark
}

func (w *Watcher) addBookmark(ctx context.Context, revision int64) {
	if !w.opts.Bookmarks || time.Now().Before(w.due(ctx)) {
		return
	}
	w.bookmark = time.Now().Add(bookmarkEvery)
	w.events = append(w.events, Event{Type: Bookmark, Revision: max(revision, w.opts.AfterRevision)})
}

// wait returns when there may be something to read, or a bookmark is due.
func (w *Watcher) wait(ctx context.Context) error {
	var due <-chan time.Time
	if w.opts.Bookmarks {
		left := time.Until(w.due(ctx))
		if w.timer == nil {
			w.timer = time.NewTimer(left)
		} else {
			w.timer.Reset(left)
		}
		defer w.timer.Stop()
		due = w.timer.C
	}
	select {
	case <-w.wake:
		return nil
	case <-due:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
