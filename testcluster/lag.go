// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/client"
)

// Lag is a Backend that shows one resource late and passes all else on. It is meant for synctest bubbles.
type Lag struct {
	client.Backend
	// Resource that is shown late: "pods".
	Resource string

	lists, events atomic.Int64 // nanoseconds
}

// Lists makes lists take so much longer from now on.
func (l *Lag) Lists(by time.Duration) { l.lists.Store(int64(by)) }

// Events makes changes come so much later from now on, one after the other. Bookmarks come in time.
func (l *Lag) Events(by time.Duration) { l.events.Store(int64(by)) }

// Do implements client.Backend.
func (l *Lag) Do(ctx context.Context, req *client.Request) (*client.Result, error) {
	res, err := l.Backend.Do(ctx, req)
	if req.Verb == client.List && req.Resource.Resource == l.Resource {
		wait(ctx, &l.lists)
	}
	return res, err
}

// Watch implements client.Backend.
func (l *Lag) Watch(ctx context.Context, req *client.Request) (client.Stream, error) {
	inner, err := l.Backend.Watch(ctx, req)
	if err != nil || req.Resource.Resource != l.Resource {
		return inner, err
	}
	s := &lagging{Stream: inner, events: make(chan watch.Event)}
	go func() {
		defer close(s.events)
		for event := range inner.Events() {
			if event.Type != watch.Bookmark { // they come whenever they like
				wait(ctx, &l.events)
			}
			select {
			case s.events <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	return s, nil
}

func wait(ctx context.Context, by *atomic.Int64) {
	select {
	case <-time.After(time.Duration(by.Load())):
	case <-ctx.Done():
	}
}

type lagging struct {
	client.Stream
	events chan watch.Event
}

func (s *lagging) Events() <-chan watch.Event { return s.events }
