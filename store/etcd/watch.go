// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"kogge.dev/kogge/store"
)

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	for news, err := range s.backend.Watch(ctx, prefix, after) {
		if canceled := ctx.Err(); canceled != nil {
			return canceled
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", prefix, translate(ctx, err))
		}
		batch := store.Batch{Events: events(news.events), Revision: news.revision}
		if n := len(batch.Events); n > 0 {
			// The server may be further than the watch.
			batch.Revision = batch.Events[n-1].ModRevision
		}
		s.tell(batch.Revision)
		if err := fn(batch); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// tell notes that somebody hears of a revision: reads from now on must show it.
func (s *Store) tell(revision int64) {
	for told := s.told.Load(); told < revision && !s.told.CompareAndSwap(told, revision); told = s.told.Load() {
	}
}

func events(from []*mvccpb.Event) []store.Event {
	out := make([]store.Event, len(from))
	for i, ev := range from {
		out[i] = event(ev)
	}
	return out
}

func event(from *mvccpb.Event) store.Event {
	kv, prev := from.Kv, from.PrevKv
	ev := store.Event{Record: record(kv), Created: from.IsCreate()}
	if from.Type == mvccpb.Event_DELETE {
		ev.Deleted = true
		ev.Value, ev.CreateRevision = prev.GetValue(), prev.GetCreateRevision()
	}
	return ev
}

// Progress implements store.Store.
func (s *Store) Progress(ctx context.Context) error { return s.backend.Progress(ctx) }
