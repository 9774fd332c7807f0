// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/client"
)

// Lag is a Backend that shows one resource late and passes all else on. It is meant for synctest bubbles.
type Lag struct {
	client.Backend
	// Resource that is shown late: "pods".
	Resource string

	lists, events atomic.Int64 // nanoseconds

	mu     sync.Mutex
	hidden bool
	cut    chan struct{} // closed when the resource is hidden; nil when nobody watches
}

// Lists makes lists take so much longer from now on.
func (l *Lag) Lists(by time.Duration) { l.lists.Store(int64(by)) }

// Events makes changes come so much later from now on, one after the other. Bookmarks come in time.
func (l *Lag) Events(by time.Duration) { l.events.Store(int64(by)) }

// Hide makes the resource not be listed or watched from now on, or be so again. What changed meanwhile is seen by a new list alone.
func (l *Lag) Hide(hide bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hide && l.cut != nil {
		close(l.cut)
		l.cut = nil
	}
	l.hidden = hide
}

// shown returns what is closed when the resource is hidden; not ok when it is.
func (l *Lag) shown() (cut <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut == nil {
		l.cut = make(chan struct{})
	}
	return l.cut, !l.hidden
}

// Do implements client.Backend.
func (l *Lag) Do(ctx context.Context, req *client.Request) (*client.Result, error) {
	if _, shown := l.shown(); !shown && req.Verb == client.List && req.Resource.Resource == l.Resource {
		return nil, apierrors.NewServiceUnavailable(l.Resource + " are hidden")
	}
	res, err := l.Backend.Do(ctx, req)
	if req.Verb == client.List && req.Resource.Resource == l.Resource {
		select {
		case <-time.After(time.Duration(l.lists.Load())):
		case <-ctx.Done():
		}
	}
	return res, err
}

// Watch implements client.Backend.
func (l *Lag) Watch(ctx context.Context, req *client.Request) (client.Stream, error) {
	if req.Resource.Resource != l.Resource {
		return l.Backend.Watch(ctx, req)
	}
	cut, shown := l.shown()
	if !shown {
		return nil, apierrors.NewResourceExpired(l.Resource + " are hidden")
	}
	inner, err := l.Backend.Watch(ctx, req)
	if err != nil {
		return nil, err
	}
	s := &lagging{Stream: inner, events: make(chan watch.Event)}
	go func() {
		defer close(s.events)
		for {
			select {
			case event, ok := <-inner.Events():
				if !ok || !s.pass(ctx, event, &l.events, cut) {
					return
				}
			case <-cut:
				s.expire(ctx)
				return
			}
		}
	}()
	return s, nil
}

// pass delivers an event when it is time; false when there is nothing more to deliver.
func (s *lagging) pass(ctx context.Context, event watch.Event, by *atomic.Int64, cut <-chan struct{}) bool {
	if event.Type != watch.Bookmark { // they come whenever they like
		select {
		case <-time.After(time.Duration(by.Load())):
		case <-cut:
			s.expire(ctx)
			return false
		case <-ctx.Done():
			return false
		}
	}
	select {
	case s.events <- event:
		return true
	case <-ctx.Done():
		return false
	}
}

// expire says that the watch can't go on from where it is.
func (s *lagging) expire(ctx context.Context) {
	status := apierrors.NewResourceExpired("the resource was hidden").Status()
	select {
	case s.events <- watch.Event{Type: watch.Error, Object: &status}:
	case <-ctx.Done():
	}
}

type lagging struct {
	client.Stream
	events chan watch.Event
}

func (s *lagging) Events() <-chan watch.Event { return s.events }
