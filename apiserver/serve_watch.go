// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver/h2"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/apiserver/watch"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/store/cache"
)

// serveWatch streams a watch over HTTP.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, a *answer, c *rest.Call) {
	opts, err := listOptionsOf(r.URL.Query())
	if err != nil {
		s.fail(w, r, apierrors.NewBadRequest(err.Error()))
		return
	}
	c.List = opts
	end := time.Now().Add(s.watchTimeout(opts))
	ctx, cancel := context.WithDeadline(r.Context(), end)
	defer cancel()
	deadlines(w, time.Time{}, end.Add(answerGrace)) // For clients that don't read: writing to them never ends.
	stop := context.AfterFunc(s.stopping, cancel)
	defer stop()
	if pusher, ok := h2.PusherOf(w); ok {
		c.Woken = pusher.Notify
	}
	stream, err := s.engine.Watch(ctx, c)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer stream.Close()
	if state := request.From(ctx); state.Streams != nil {
		state.Streams()
	}
	source := &watchSource{answer: a, stream: stream, watched: s.metrics.watching(a.target.GVR)}
	if err := watch.Serve(w, r.WithContext(ctx), a.Format, source); err != nil && ctx.Err() == nil {
		s.log.Debug("watch ended", "path", r.URL.Path, "err", err)
	}
}

// watchTimeout is what the client asked for, which may be over before it begins, or a time of our own between the minimum and twice that, so that watches do not end all at once.
func (s *Server) watchTimeout(opts *metav1.ListOptions) time.Duration {
	if opts.TimeoutSeconds != nil && *opts.TimeoutSeconds != 0 {
		return time.Duration(*opts.TimeoutSeconds) * time.Second
	}
	return s.cfg.MinWatchTimeout + rand.N(s.cfg.MinWatchTimeout)
}

// watchSource encodes the events of a stream as the client wants them.
type watchSource struct {
	answer  *answer
	stream  *rest.Stream
	watched *watched
	events  []watch.Event
	// rest of the stream's events that are not encoded yet.
	rest []cache.Event
	// failed is set once the error event has been sent.
	failed bool
}

// Next implements watch.Source.
func (s *watchSource) Next(ctx context.Context) ([]watch.Event, error) {
	return s.read(ctx, s.stream.Next)
}

// Poll implements watch.Source. Who sends the rest of an earlier look has not looked again: what came meanwhile has been told of, and is not told again.
func (s *watchSource) Poll(ctx context.Context) (events []watch.Event, more bool, err error) {
	looks := len(s.rest) == 0
	events, err = s.read(ctx, s.stream.Poll)
	return events, s.failed || !looks || len(s.rest) > 0 || !s.stream.Drained(), err
}

func (s *watchSource) read(ctx context.Context, next func(context.Context) ([]cache.Event, error)) ([]watch.Event, error) {
	if s.failed {
		return nil, io.EOF
	}
	s.events = s.events[:0]
	var err error
	if len(s.rest) == 0 {
		s.rest, err = next(ctx)
	}
	if err != nil {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			return nil, io.EOF // The end of the time, of the client or of the server.
		}
		s.failed = true
		st := status.Status()
		return append(s.events, watch.Event{Type: "ERROR", Object: codec.Status(&st, s.answer.Format)}), nil
	}
	// Only as much as is written at once: what is encoded stays in memory while a slow client is written to.
	for size := 0; len(s.rest) > 0 && size < watch.Enough; {
		ev := s.rest[0]
		s.rest = s.rest[1:]
		object, err := s.encode(ev)
		if err != nil {
			return nil, err
		}
		size += len(object)
		s.watched.event(len(object))
		s.events = append(s.events, watch.Event{Type: ev.Type.String(), Object: object})
	}
	return s.events, nil
}

func (s *watchSource) encode(ev cache.Event) ([]byte, error) {
	a := s.answer
	if ev.Type == cache.Bookmark {
		obj, ok := s.stream.Bookmark(ev).(runtime.Object)
		if !ok {
			return nil, errors.New("bookmark is no object")
		}
		return s.encodeObject(obj)
	}
	if a.As == "" && a.Format != codec.YAML {
		return a.entry(&rest.Result{Entry: ev.Entry})
	}
	obj, err := a.target.Object(ev.Entry)
	if err != nil {
		return nil, err
	}
	return s.encodeObject(obj)
}

func (s *watchSource) encodeObject(obj runtime.Object) ([]byte, error) {
	a := s.answer
	obj, err := a.project(obj)
	if err != nil {
		return nil, err
	}
	if table, ok := obj.(*metav1.Table); ok {
		if a.tableSent {
			table.ColumnDefinitions = nil // The client knows the columns from the first event.
		}
		a.tableSent = true
	}
	data, err := codec.Marshal(obj, a.Format)
	if err == nil && a.Format == codec.YAML {
		return yaml.YAMLToJSON(data)
	}
	return data, err
}
