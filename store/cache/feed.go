// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kogge.dev/kogge/store"
)

// DefaultBudget bounds what is derived from entries, in bytes, where FeedConfig.Budget is zero.
const DefaultBudget = 32 << 20

// Times of waiting for a revision: events bring it nearly always. Progress is asked for when they have not after
// progressAfter, and again every progressEvery.
const (
	progressAfter = 5 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// FeedConfig configures a Feed.
type FeedConfig struct {
	// Store to watch. Required.
	Store store.Store
	// Prefix of all caches' prefixes; empty means "/registry/".
	Prefix string
	// Budget bounds the bytes of decoded objects, attributes and encodings that all caches of the feed remember, besides two for each
	// stored byte; zero means DefaultBudget. Stored bytes are not counted: they are what a cache is for.
	Budget int64
	// Logger; nil means none.
	Logger *slog.Logger
}

// Feed watches the store once and feeds all caches. All methods are safe for concurrent use.
//
// One watch for all is what makes reads cheap to keep fresh: whatever is written anywhere moves the feed's revision, so that a
// cache of quiet objects is as fresh as any other, and nobody has to ask the store for progress.
type Feed struct {
	store  store.Store
	prefix string
	budget *budget
	log    *slog.Logger
	// revision up to which every event has been applied to its cache, or queued in it while the cache lists.
	revision atomic.Int64

	mu      sync.Mutex
	caches  map[string]*Cache
	waiters map[*waiter]struct{}
	// ctx is Run's, from the first revision on: only then caches can be filled, each on a goroutine of fills.
	ctx   context.Context //nolint:containedctx // lent by Run, so that late caches are filled
	fills sync.WaitGroup
	// ended is set when Run has ended.
	ended bool
}

// waiter waits for a revision.
type waiter struct {
	revision int64
	done     chan struct{}
}

// NewFeed makes a feed; it brings nothing until Run.
func NewFeed(cfg FeedConfig) (*Feed, error) {
	if cfg.Store == nil {
		return nil, errors.New("watch cache feed without a store")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "/registry/"
	}
	if cfg.Budget == 0 {
		cfg.Budget = DefaultBudget
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Feed{
		store: cfg.Store, prefix: cfg.Prefix, budget: newBudget(cfg.Budget), log: cfg.Logger,
		caches: map[string]*Cache{}, waiters: map[*waiter]struct{}{},
	}, nil
}

// Run watches, and fills caches, until ctx ends, and all caches with it. It is called once.
func (f *Feed) Run(ctx context.Context) error {
	defer f.end()
	var budget sync.WaitGroup
	budget.Go(func() { f.budget.run(ctx) })
	defer budget.Wait()
	var wait backoff
	for lost := true; ; {
		err := f.watch(ctx, lost, wait.reset)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.log.Info("watch for watch caches", "err", err)
		lost = errors.Is(err, store.ErrCompacted) || f.revision.Load() == 0
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
}

// watch runs one watch. After a loss it begins at the store's present and has all caches list again; else where the
// watch before it ended.
func (f *Feed) watch(ctx context.Context, lost bool, progress func()) error {
	if lost {
		revision, err := f.store.Revision(ctx)
		if err != nil {
			return fmt.Errorf("read the store's revision: %w", err)
		}
		f.mu.Lock()
		f.ctx = ctx
		for _, c := range f.caches {
			f.fillLocked(c)
		}
		f.mu.Unlock()
		f.publish(max(revision, 1))
	}
	return f.store.Watch(ctx, f.prefix, f.revision.Load(), func(b store.Batch) error {
		progress()
		f.dispatch(b.Events)
		f.publish(b.Revision)
		return nil
	})
}

// dispatch hands each run of events to the cache that they belong to.
func (f *Feed) dispatch(events []store.Event) {
	if len(events) == 0 {
		return
	}
	now := time.Now()
	begin := 0
	var current *Cache
	for i := range events {
		if c := f.find(events[i].Key); c != current {
			if current != nil {
				current.apply(events[begin:i], now)
			}
			current, begin = c, i
		}
	}
	if current != nil {
		current.apply(events[begin:], now)
	}
}

// find returns the cache with the longest prefix of key, or nil.
func (f *Feed) find(key string) *Cache {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(key); i > len(f.prefix); i-- {
		if key[i-1] == '/' {
			if c := f.caches[key[:i]]; c != nil {
				return c
			}
		}
	}
	return nil
}

func (f *Feed) attach(c *Cache) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended:
		return ErrEnded
	case f.caches[c.prefix] != nil:
		return fmt.Errorf("a second watch cache of %s", c.prefix)
	}
	f.caches[c.prefix] = c
	if f.ctx != nil {
		f.fillLocked(c)
	}
	return nil
}

// fillLocked has a cache list its prefix: it follows the feed from here on.
func (f *Feed) fillLocked(c *Cache) {
	if ctx := f.ctx; c.stale() {
		f.fills.Go(func() { c.fill(ctx) })
	}
}

func (f *Feed) detach(c *Cache) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.caches[c.prefix] == c {
		delete(f.caches, c.prefix)
	}
}

// end ends all caches.
func (f *Feed) end() {
	f.mu.Lock()
	f.ended = true
	caches := slices.Collect(maps.Values(f.caches))
	f.mu.Unlock()
	f.fills.Wait()
	for _, c := range caches {
		c.Close()
	}
}

// Revision up to which all caches that follow the feed have seen everything; 0 before the feed began.
func (f *Feed) Revision() int64 { return f.revision.Load() }

func (f *Feed) publish(revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if revision <= f.revision.Load() {
		return
	}
	f.revision.Store(revision)
	for w := range f.waiters {
		if w.revision <= revision {
			close(w.done)
			delete(f.waiters, w)
		}
	}
}

// WaitFor waits until the feed has brought a revision.
func (f *Feed) WaitFor(ctx context.Context, revision int64) error {
	if f.revision.Load() >= revision {
		return nil
	}
	w := &waiter{revision: revision, done: make(chan struct{})}
	f.mu.Lock()
	if f.revision.Load() >= revision {
		f.mu.Unlock()
		return nil
	}
	f.waiters[w] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.waiters, w)
		f.mu.Unlock()
	}()
	timer := time.NewTimer(progressAfter)
	defer timer.Stop()
	for {
		select {
		case <-w.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", revision, context.Cause(ctx))
		case <-timer.C:
			if f.revision.Load() > 0 {
				if err := f.store.Progress(ctx); err != nil && ctx.Err() == nil {
					f.log.Debug("ask the store for progress", "err", err) // The watch may bring it yet.
				}
			}
			timer.Reset(progressEvery)
		}
	}
}

// Fresh waits until the feed has brought everything that was written before the call. It returns a revision that is at
// least as new.
func (f *Feed) Fresh(ctx context.Context) (int64, error) {
	revision, err := f.store.Revision(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the store's revision: %w", err)
	}
	return revision, f.WaitFor(ctx, revision)
}

// backoff waits longer after each failure: from 10 ms, doubling, to 5 s.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

func (b *backoff) sleep(ctx context.Context) error {
	b.next = min(max(2*b.next, 10*time.Millisecond), 5*time.Second)
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
