// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package memory is a store in memory, for tests and throw-away clusters. It has the semantics of store/etcd, passes the same
// suite, and works inside testing/synctest bubbles: it has no goroutines and only timers for keys with a time to live.
package memory

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/btree"

	"kogge.dev/kogge/store"
)

// overhead is what a request needs besides key and value, in bytes; etcd counts it, too.
const overhead = 512

// item of the tree: a key with what is known of its past.
type item struct {
	key string
	// versions, oldest first. The last is the present. Those before the last that a read at the compacted revision can
	// see are gone.
	versions []version
}

// version is one state of a key; a deleted one has the deletion's revision as mod.
type version struct {
	value       []byte
	create, mod int64
	deleted     bool
}

func (v version) record(key string) store.Record {
	return store.Record{Key: key, Value: v.value, CreateRevision: v.create, ModRevision: v.mod}
}

// Store is an in-memory store.Store.
type Store struct {
	mu sync.RWMutex
	// revision of the last change. As in etcd an empty store is at 1.
	revision int64
	// compacted is the oldest revision that can be read.
	compacted int64
	tree      *btree.BTreeG[*item]
	// log holds one event per revision, from compacted (or 2) to revision; log[0] has logFirst.
	log      []store.Event
	logFirst int64
	watches  map[*watch]struct{}
	expiry   expiries
	timer    *time.Timer
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{
		revision: 1,
		logFirst: 2,
		tree:     btree.NewG(32, func(a, b *item) bool { return a.key < b.key }),
		watches:  map[*watch]struct{}{},
	}
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Record, int64, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if v, ok := s.currentLocked(key); ok {
		return v.record(key), s.revision, nil
	}
	return store.Record{}, s.revision, store.ErrNotFound
}

// currentLocked returns the present version of a key, unless it is deleted.
func (s *Store) currentLocked(key string) (version, bool) {
	it, ok := s.tree.Get(&item{key: key})
	if !ok {
		return version{}, false
	}
	v := it.versions[len(it.versions)-1]
	return v, !v.deleted
}

// at returns the version that a read at a revision sees, unless there was none or it was deleted.
func (it *item) at(revision int64) (version, bool) {
	for _, v := range slices.Backward(it.versions) {
		if v.mod <= revision {
			return v, !v.deleted
		}
	}
	return version{}, false
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, opts store.ListOptions) (store.Page, error) {
	if err := ctx.Err(); err != nil {
		return store.Page{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := store.Page{Revision: opts.Revision}
	switch {
	case opts.Revision == 0:
		page.Revision = s.revision
	case opts.Revision > s.revision:
		return store.Page{}, store.ErrFuture
	case opts.Revision < s.compacted:
		return store.Page{}, store.ErrCompacted
	}
	s.tree.AscendGreaterOrEqual(&item{key: max(opts.Prefix, opts.From)}, func(it *item) bool {
		if !strings.HasPrefix(it.key, opts.Prefix) {
			return false
		}
		v, ok := it.at(page.Revision)
		switch {
		case !ok:
		case opts.Limit > 0 && int64(len(page.Records)) == opts.Limit:
			page.Remaining++
		default:
			page.Records = append(page.Records, v.record(it.key))
		}
		return true
	})
	return page, nil
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, key string, value []byte, opts store.WriteOptions) (int64, error) {
	return s.write(ctx, key, value, opts, func(current version, exists bool) error {
		if exists {
			return store.ErrExists
		}
		return nil
	})
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, key string, value []byte, expected int64, opts store.WriteOptions) (int64, error) {
	return s.write(ctx, key, value, opts, func(current version, exists bool) error {
		return check(key, current, exists, expected)
	})
}

// check compares a key's revision with the expected one, 0 meaning absent.
func check(key string, current version, exists bool, expected int64) error {
	switch {
	case !exists && expected == 0:
		return nil
	case !exists:
		return store.ErrNotFound
	case current.mod != expected:
		return &store.ConflictError{Current: current.record(key)}
	default:
		return nil
	}
}

func (s *Store) write(ctx context.Context, key string, value []byte, opts store.WriteOptions, check func(version, bool) error) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(key)+len(value)+overhead > store.MaxRequestBytes {
		return 0, store.ErrTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current, exists := s.currentLocked(key)
	if err := check(current, exists); err != nil {
		return 0, err
	}
	next := version{value: bytes.Clone(value), create: current.create, mod: s.revision + 1}
	if next.value == nil {
		next.value = []byte{}
	}
	if !exists {
		next.create = next.mod
	}
	s.putLocked(key, next, store.Event{Record: next.record(key), Created: !exists})
	if opts.TTL > 0 {
		s.expireLocked(key, next.mod, opts.TTL)
	}
	return next.mod, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, expected int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current, exists := s.currentLocked(key)
	if !exists {
		return 0, store.ErrNotFound
	}
	if err := check(key, current, true, expected); err != nil {
		return 0, err
	}
	return s.deleteLocked(key, current), nil
}

func (s *Store) deleteLocked(key string, current version) int64 {
	next := version{create: current.create, mod: s.revision + 1, deleted: true}
	ev := store.Event{Record: current.record(key), Deleted: true}
	ev.ModRevision = next.mod
	s.putLocked(key, next, ev)
	return next.mod
}

// putLocked appends a version of a key and tells the watches.
func (s *Store) putLocked(key string, next version, ev store.Event) {
	it, ok := s.tree.Get(&item{key: key})
	if !ok {
		it = &item{key: key}
		s.tree.ReplaceOrInsert(it)
	}
	it.versions = append(it.versions, next)
	s.revision = next.mod
	s.log = append(s.log, ev)
	for w := range s.watches {
		if strings.HasPrefix(key, w.prefix) {
			w.wakeUp()
		}
	}
}

// Revision implements store.Store.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.revision, nil
}

// Compact implements store.Store.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case revision > s.revision:
		return store.ErrFuture
	case revision <= s.compacted:
		return store.ErrCompacted
	}
	s.compacted = revision
	// Only keys that changed up to the revision have a past to drop. The event of the revision itself stays watchable.
	n := 0
	for n < len(s.log) && s.log[n].ModRevision <= revision {
		s.compactKeyLocked(s.log[n].Key)
		n++
	}
	if n > 0 && s.log[n-1].ModRevision == revision {
		n--
	}
	s.log = append([]store.Event(nil), s.log[n:]...)
	s.logFirst += int64(n)
	return nil
}

// compactKeyLocked drops the versions of a key that no read at the compacted revision or later can see.
func (s *Store) compactKeyLocked(key string) {
	it, ok := s.tree.Get(&item{key: key})
	if !ok {
		return
	}
	first := 0
	for first+1 < len(it.versions) && it.versions[first+1].mod <= s.compacted {
		first++
	}
	if v := it.versions[first]; v.deleted && v.mod <= s.compacted {
		first++
	}
	if first == len(it.versions) {
		s.tree.Delete(it)
		return
	}
	if first > 0 {
		it.versions = append([]version(nil), it.versions[first:]...)
	}
}
