// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kogge.dev/kogge/store"
)

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	responses := s.client.Watch(s.watchContext(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1), clientv3.WithPrevKV())
	for resp := range responses {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch %s: %w", prefix, translate(err))
		}
		batch := store.Batch{Revision: resp.Header.GetRevision()}
		switch {
		case len(resp.Events) > 0:
			batch.Events = events(resp.Events)
			// The header's revision is the server's at the time, which the watch may not have reached yet.
			batch.Revision = batch.Events[len(batch.Events)-1].ModRevision
		case !resp.IsProgressNotify():
			continue
		}
		s.tell(batch.Revision)
		if err := fn(batch); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("watch %s: the stream has ended", prefix)
}

// tell notes that somebody hears of a revision: reads from now on must show it.
func (s *Store) tell(revision int64) {
	for told := s.told.Load(); told < revision && !s.told.CompareAndSwap(told, revision); told = s.told.Load() {
	}
}

func events(from []*clientv3.Event) []store.Event {
	out := make([]store.Event, len(from))
	for i, ev := range from {
		out[i] = event(ev)
	}
	return out
}

func event(from *clientv3.Event) store.Event {
	kv, prev := from.Kv, from.PrevKv
	ev := store.Event{Record: record(kv), Created: from.IsCreate()}
	if from.Type == mvccpb.Event_DELETE {
		ev.Deleted = true
		ev.Value, ev.CreateRevision = prev.GetValue(), prev.GetCreateRevision()
	}
	return ev
}

// Progress implements store.Store.
func (s *Store) Progress(ctx context.Context) error {
	err := s.client.RequestProgress(s.watchContext(ctx))
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if err != nil && strings.Contains(err.Error(), "no stream found") { // No watch runs.
		return nil
	}
	return err
}
