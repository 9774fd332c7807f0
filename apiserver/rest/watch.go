// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
)

// Stream is a running watch. Next is called from one goroutine; Close ends it.
type Stream struct {
	Target  *Target
	watcher *cache.Watcher
	after   int64
	// refused is what Next says of a stream that can't begin; nil with no watcher means that after is too old.
	refused error
}

// Watch starts a watch. Errors that upstream delivers as an event of the stream come from the first Next.
func (e *Engine) Watch(ctx context.Context, c *Call) (*Stream, error) {
	if !c.Target.stored() || !c.Target.Kind.Allows("watch") {
		return nil, apierrors.NewMethodNotSupported(c.Target.GVR.GroupResource(), "watch")
	}
	s, err := e.watch(ctx, c)
	if err != nil {
		return nil, e.interpret(c, err)
	}
	return s, nil
}

func (e *Engine) watch(ctx context.Context, c *Call) (*Stream, error) {
	opts, sel, err := c.listed(true)
	if err != nil {
		return nil, err
	}
	b := c.Target.bound
	want := cache.WatchOptions{Prefix: sel.prefix, Key: sel.key, Filter: sel.filter(), Bookmarks: opts.AllowWatchBookmarks, Woken: c.Woken}
	if sel.named() {
		want.Filter = nil // Only the key is watched.
	}
	want.Deadline, _ = ctx.Deadline()
	want.Deadline = deadline(want.Deadline, opts.TimeoutSeconds)
	if field := indexField(b.prefix); field != "" {
		want.Index = exact(sel.fields, field)
	}
	revision, set, err := parseVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	initial := opts.SendInitialEvents != nil && *opts.SendInitialEvents
	switch {
	case !set:
		if revision, err = b.cache.Fresh(ctx); errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return &Stream{Target: c.Target, refused: ctx.Err()}, nil // It is over before it begins.
		}
		if err != nil {
			return nil, err
		}
	case initial:
		if err := e.waitFor(ctx, b, revision); err != nil {
			if apierrors.IsTimeout(err) || errors.Is(ctx.Err(), context.DeadlineExceeded) { // the stream ends before the revision is seen
				return &Stream{Target: c.Target, refused: tooLarge(revision, b.cache.Revision())}, nil
			}
			return nil, err
		}
	case revision == 0: // any version will do, and nothing of it is asked for
		revision = b.cache.Revision()
	}
	want.SendInitialEvents = initial
	want.MarkInitialEnd = initial && opts.AllowWatchBookmarks
	if !initial {
		want.AfterRevision = revision
	}
	w, err := b.cache.Watch(want)
	if errors.Is(err, store.ErrCompacted) {
		return &Stream{Target: c.Target, after: revision}, nil // Next says so.
	}
	if err != nil {
		return nil, err
	}
	return &Stream{Target: c.Target, watcher: w, after: revision}, nil
}

// deadline is the end of a watch, that the client has asked for or that there is already.
func deadline(end time.Time, seconds *int64) time.Time {
	if seconds == nil || *seconds <= 0 {
		return end
	}
	if asked := time.Now().Add(time.Duration(*seconds) * time.Second); end.IsZero() || asked.Before(end) {
		return asked
	}
	return end
}

func exact(sel fields.Selector, field string) string {
	value, _ := sel.RequiresExactMatch(field)
	return value
}

// Next waits for events. The slice is reused by the next call. When the watch can't go on it returns a status error to deliver as
// the last event, or the context's error.
func (s *Stream) Next(ctx context.Context) ([]cache.Event, error) {
	return s.read(ctx, (*cache.Watcher).Next)
}

// Poll returns the events that there are, which may be none, as Next does otherwise. Until Drained there may be more; Call.Woken tells of those
// that come then.
func (s *Stream) Poll(ctx context.Context) ([]cache.Event, error) {
	return s.read(ctx, (*cache.Watcher).Poll)
}

// Drained tells whether the last Poll has read all that there was.
func (s *Stream) Drained() bool { return s.watcher == nil || s.watcher.Drained() }

func (s *Stream) read(ctx context.Context, from func(*cache.Watcher, context.Context) ([]cache.Event, error)) ([]cache.Event, error) {
	if s.watcher == nil {
		if s.refused != nil {
			return nil, s.refused
		}
		return nil, s.tooOld()
	}
	events, err := from(s.watcher, ctx)
	if errors.Is(err, store.ErrCompacted) {
		return nil, s.tooOld()
	}
	return events, err
}

// Close ends the watch.
func (s *Stream) Close() {
	if s.watcher != nil {
		s.watcher.Close()
	}
}

func (s *Stream) tooOld() error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", s.after, s.Target.cache.Revision()))
}

// Bookmark is the object of a bookmark event at the target's version.
func (s *Stream) Bookmark(ev cache.Event) metav1.Object {
	obj := s.Target.Served.Blank()
	obj.GetObjectKind().SetGroupVersionKind(s.Target.Served.GroupVersionKind)
	obj.SetResourceVersion(strconv.FormatInt(ev.Revision, 10))
	if ev.InitialEnd {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return obj
}
