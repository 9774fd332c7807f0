// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"strings"
	"sync/atomic"

	"kogge.dev/kogge/store"
)

// batchMax bounds the events of a batch.
const batchMax = 256

// watch is one running Watch: a cursor into the store's log, and a flag that there is something to read.
type watch struct {
	prefix string
	// wake has one place; further tokens say nothing new and are dropped.
	wake chan struct{}
	// progress is set when a progress mark was asked for.
	progress atomic.Bool
}

func (w *watch) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	w := &watch{prefix: prefix, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.watches[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watches, w)
		s.mu.Unlock()
	}()
	next := after + 1
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		marked := w.progress.Swap(false)
		events, reached, err := s.read(prefix, next)
		if err != nil {
			return err
		}
		next = max(next, reached+1)
		if len(events) > 0 {
			if err := fn(store.Batch{Events: events, Revision: reached}); err != nil {
				return err
			}
			if marked {
				w.progress.Store(true)
			}
			continue
		}
		if marked {
			if err := fn(store.Batch{Revision: reached}); err != nil {
				return err
			}
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read returns the next events of a prefix from revision next on, and the revision up to which it looked.
func (s *Store) read(prefix string, next int64) (events []store.Event, reached int64, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if next < s.compacted {
		return nil, 0, store.ErrCompacted
	}
	for at := max(next-s.logFirst, 0); at < int64(len(s.log)); at++ {
		if ev := s.log[at]; strings.HasPrefix(ev.Key, prefix) {
			if events = append(events, ev); len(events) == batchMax {
				return events, ev.ModRevision, nil
			}
		}
	}
	return events, s.revision, nil
}

// Progress implements store.Store.
func (s *Store) Progress(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for w := range s.watches {
		w.progress.Store(true)
		w.wakeUp()
	}
	return nil
}
