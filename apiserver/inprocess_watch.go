// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/store/cache"
)

// Watch implements client.Backend.
func (l *local) Watch(ctx context.Context, req *client.Request) (client.Stream, error) {
	named := *req
	named.Verb = client.Watch
	if remote, err := l.elsewhere(req.Resource.GroupVersion()); remote != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return remote.Watch(ctx, &named)
	}
	if !l.server.streams.begin() {
		return nil, http.ErrServerClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	reqCtx, state, call, err := l.begin(ctx, &named)
	started, finish := l.audited(state)
	var stream *rest.Stream
	if err == nil {
		stream, err = l.server.engine.Watch(reqCtx, call)
	}
	if err != nil {
		l.server.streams.end()
		cancel()
		status := statusOf(err)
		started(nil, status)
		finish(nil, status)
		l.server.logRequest(reqCtx, state, int(status.Code))
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	if o := call.List; o != nil && o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		var release context.CancelFunc
		reqCtx, release = context.WithTimeout(reqCtx, time.Duration(*o.TimeoutSeconds)*time.Second)
		context.AfterFunc(reqCtx, release)
	}
	started(nil, metav1.Status{Code: http.StatusOK})
	done := l.server.metrics.begin(&parsed{Info: state.Info, served: true})
	out := &localStream{
		read:   func() ([]apiwatch.Event, bool) { return pull(reqCtx, stream, req) },
		send:   func(ev apiwatch.Event, to chan<- apiwatch.Event) bool { return deliver(reqCtx, to, ev) },
		cancel: cancel,
		end: func() {
			stream.Close()
			done(http.StatusOK)
			finish(nil, metav1.Status{Code: http.StatusOK})
			l.server.logRequest(reqCtx, state, http.StatusOK)
			l.server.streams.end()
		},
	}
	out.mu.Lock()
	out.forget = context.AfterFunc(l.server.stopping, out.Stop)
	out.mu.Unlock()
	return out, nil
}

// localStream is a watch of a component of this process. Nothing runs for it while its reader waits in Next; one goroutine moves events to the channel for
// those who read that. Either way a slow reader falls behind in the cache's log and nowhere else.
type localStream struct {
	// read waits for events; false means that they are the last ones.
	read func() ([]apiwatch.Event, bool)
	// send gives an event to a reader of the channel; false when nobody wants it any more.
	send func(ev apiwatch.Event, to chan<- apiwatch.Event) bool
	// cancel ends read and send. end gives back what the stream holds; it is called once, when neither is running.
	cancel context.CancelFunc
	end    func()

	mu sync.Mutex
	// forget takes the stream out of those that end with the server.
	forget func() bool
	// reading is set during read, and for good once the channel is read; stopped by Stop, ended from the end on.
	reading, stopped, ended bool
	// events is the channel, nil before somebody asks for it.
	events chan apiwatch.Event
}

var _ client.Puller = (*localStream)(nil)

// Next implements client.Puller.
func (s *localStream) Next() ([]apiwatch.Event, bool) {
	if !s.begin() {
		return nil, false
	}
	events, more := s.read()
	s.mu.Lock()
	s.reading = false
	return events, !s.endIf(!more || s.stopped)
}

// begin notes that somebody reads; false when the stream has ended.
func (s *localStream) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = !s.ended
	return s.reading
}

// endIf ends the stream unless it has ended, and tells whether it has. The caller holds mu, and does no longer afterwards.
func (s *localStream) endIf(now bool) bool {
	now = now && !s.ended
	s.ended = s.ended || now
	ended := s.ended
	s.mu.Unlock()
	if now {
		s.cancel()
		s.forget()
		s.end()
	}
	return ended
}

// Stop implements client.Stream.
func (s *localStream) Stop() {
	s.cancel()
	s.mu.Lock()
	s.stopped = true
	s.endIf(!s.reading) // else by who reads
}

// Events implements client.Stream.
func (s *localStream) Events() <-chan apiwatch.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events == nil {
		s.events = make(chan apiwatch.Event)
		go s.pump(s.events)
	}
	return s.events
}

// pump sends all events, the last ones before the stream ends. The channel has no buffer.
func (s *localStream) pump(to chan<- apiwatch.Event) {
	defer close(to)
	if !s.begin() {
		return
	}
	for more, wanted := true, true; more && wanted; {
		var events []apiwatch.Event
		events, more = s.read()
		for i := 0; i < len(events) && wanted; i++ {
			wanted = s.send(events[i], to)
		}
	}
	s.mu.Lock()
	s.reading = false
	s.endIf(true)
}

// pull waits for a stream's events, with as much of the objects as is asked for; false means that they are the last ones.
func pull(ctx context.Context, stream *rest.Stream, req *client.Request) (out []apiwatch.Event, more bool) {
	events, err := stream.Next(ctx)
	if err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			st := status.Status()
			out = append(out, apiwatch.Event{Type: apiwatch.Error, Object: &st})
		}
		return out, false
	}
	out = make([]apiwatch.Event, 0, len(events))
	for _, ev := range events {
		obj, err := eventObject(stream, ev, req)
		if err != nil {
			st := statusOf(apierrors.NewInternalError(err))
			return append(out, apiwatch.Event{Type: apiwatch.Error, Object: &st}), false
		}
		out = append(out, apiwatch.Event{Type: apiwatch.EventType(ev.Type.String()), Object: obj})
	}
	return out, true
}

func eventObject(stream *rest.Stream, ev cache.Event, req *client.Request) (runtime.Object, error) {
	if ev.Type != cache.Bookmark {
		return projected(req, stream.Target, ev.Entry)
	}
	obj, ok := stream.Bookmark(ev).(runtime.Object)
	if !ok {
		return nil, errors.New("bookmark is no object")
	}
	if req.Metadata {
		return metadataOf(obj, stream.Target)
	}
	return obj, nil
}

func deliver(ctx context.Context, to chan<- apiwatch.Event, ev apiwatch.Event) bool {
	select {
	case to <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}
