// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package watch carries events to HTTP clients: as JSON lines, as length-delimited protobuf, or as WebSocket messages.
package watch

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/apiserver/h2"
	"kogge.dev/kogge/codec"
)

// Event is one event with its object already encoded.
type Event struct {
	Type   string
	Object []byte
}

// Source yields events. io.EOF ends the stream in order. The slices may be reused by the next call.
type Source interface {
	// Next blocks for at least one event. It is not called where the response has an h2.Pusher.
	Next(ctx context.Context) ([]Event, error)
	// Poll returns the events that there are, which may be none, and whether there may be more: false means that it has looked for all that the
	// source has notified of before the call. It is called only where the response has an h2.Pusher, which the source notifies of those that come
	// later.
	Poll(ctx context.Context) (events []Event, more bool, err error)
}

// ContentType of a stream in a format.
func ContentType(format codec.Format) string {
	if format == codec.JSON {
		return string(format)
	}
	return string(format) + ";stream=watch"
}

// Serve writes the source's events until it ends or the client goes away.
func Serve(w http.ResponseWriter, r *http.Request, format codec.Format, source Source) error {
	if isWebSocket(r) {
		return serveWebSocket(w, r, format, source)
	}
	w.Header().Set("Content-Type", ContentType(format))
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	if err := flusher.Flush(); err != nil {
		return err
	}
	if pusher, ok := h2.PusherOf(w); ok {
		return push(r.Context(), w, pusher, format, source)
	}
	out := frames{to: w, format: format}
	for {
		events, err := source.Next(r.Context())
		if err != nil {
			return ended(err)
		}
		for _, ev := range events {
			if out.add(ev) != nil {
				return nil //nolint:nilerr // As below.
			}
		}
		if out.flush() != nil {
			return nil //nolint:nilerr // The client went away.
		}
		if err := flusher.Flush(); err != nil {
			return nil //nolint:nilerr // The client went away.
		}
	}
}

// push has the connection send events as they come. What it can't take at once, and how the watch ends, are left to this goroutine.
func push(ctx context.Context, w http.ResponseWriter, pusher h2.Pusher, format codec.Format, source Source) error {
	var failure error
	var out [][]byte
	take := func() ([][]byte, h2.Then) {
		events, more, err := source.Poll(ctx)
		if err != nil {
			failure = err
			return nil, h2.Done
		}
		out = out[:0]
		for _, ev := range events {
			head, object, tail := parts(ev, format)
			out = append(out, head, object, tail)
		}
		if more {
			return out, h2.Again
		}
		return out, h2.Wait
	}
	// What there is to begin with may be much, and hard to find: others of the connection need not wait for it.
	pieces, then := take()
	for failure == nil && ctx.Err() == nil {
		for _, piece := range pieces {
			if _, err := w.Write(piece); err != nil {
				return nil //nolint:nilerr // The client went away.
			}
		}
		if then != h2.Again {
			pieces, then = pusher.Push(ctx, take), h2.Wait
			continue
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return nil //nolint:nilerr // As above.
		}
		pieces, then = take()
	}
	return ended(failure)
}

func ended(err error) error {
	if err == io.EOF { //nolint:errorlint // The contract is the bare value.
		return nil
	}
	return err
}

// Enough is how much of events is written at once. There is one buffer for each watch: it holds no more than that, so that clients that don't
// read take little memory, whatever is sent to them. Objects above it go out without a copy.
const Enough = 64 << 10

// frames writes events as they travel in a plain stream.
type frames struct {
	to     io.Writer
	format codec.Format
	buf    []byte
}

// add writes one event, now or with the next flush. An error means that the client went away.
func (f *frames) add(ev Event) error {
	head, object, tail := parts(ev, f.format)
	f.buf = append(f.buf, head...)
	if err := f.addObject(object); err != nil {
		return err
	}
	f.buf = append(f.buf, tail...)
	return nil
}

func (f *frames) addObject(object []byte) error {
	if len(f.buf)+len(object) <= Enough {
		f.buf = append(f.buf, object...)
		return nil
	}
	if err := f.flush(); err != nil {
		return err
	}
	if len(object) <= Enough/2 {
		f.buf = append(f.buf, object...)
		return nil
	}
	_, err := f.to.Write(object)
	return err
}

func (f *frames) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	_, err := f.to.Write(f.buf)
	f.buf = f.buf[:0]
	return err
}

// parts are what an event is sent as, one after the other. The object is that of the event, as it may be shared by many.
func parts(ev Event, format codec.Format) (head, object, tail []byte) {
	object = ev.Object
	if format == codec.Protobuf {
		// The length, and a WatchEvent: the type, and a RawExtension with the object.
		var room [16]byte
		inner := codec.AppendLength(room[:0], 1, len(object))
		head = codec.AppendBytes(make([]byte, 4, 64), 1, []byte(ev.Type))
		head = append(codec.AppendLength(head, 2, len(inner)+len(object)), inner...)
		binary.BigEndian.PutUint32(head, uint32(len(head)-4+len(object))) // Objects are bounded far below 4 GiB.
		return head, object, nil
	}
	return []byte(`{"type":"` + ev.Type + `","object":`), trimmed(object), jsonTail
}

var jsonTail = []byte("}\n")

func trimmed(object []byte) []byte {
	for len(object) > 0 && object[len(object)-1] == '\n' {
		object = object[:len(object)-1]
	}
	return object
}

func protobuf(ev Event) ([]byte, error) {
	return (&metav1.WatchEvent{Type: ev.Type, Object: runtime.RawExtension{Raw: ev.Object}}).Marshal()
}

// lastWrite is how long a WebSocket client may take what is being written when its watch ends.
const lastWrite = 5 * time.Second

func isWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// serveWebSocket sends each event as one message. What the client sends is ignored; its close ends the stream.
func serveWebSocket(w http.ResponseWriter, r *http.Request, format codec.Format, source Source) error {
	var failure error
	server := websocket.Server{
		// Any origin may connect: it is authenticated like every other request.
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = accepted(config.Protocol)
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			stop := context.AfterFunc(ctx, func() { _ = ws.SetWriteDeadline(time.Now().Add(lastWrite)) })
			defer stop()
			go func() {
				defer cancel()
				_, _ = io.Copy(io.Discard, ws)
			}()
			failure = sendMessages(ctx, ws, format, source)
		},
	}
	server.ServeHTTP(w, r)
	return failure
}

// accepted drops the pseudo protocol that carries a bearer token.
func accepted(protocols []string) []string {
	for _, p := range protocols {
		if !strings.HasPrefix(p, "base64url.bearer.authorization.k8s.io.") {
			return []string{p}
		}
	}
	return nil
}

func sendMessages(ctx context.Context, ws *websocket.Conn, format codec.Format, source Source) error {
	for {
		events, err := source.Next(ctx)
		if err != nil {
			return ended(err)
		}
		for _, ev := range events {
			if format == codec.Protobuf {
				message, err := protobuf(ev)
				if err != nil {
					return err
				}
				if websocket.Message.Send(ws, message) != nil {
					return nil //nolint:nilerr // The client went away.
				}
				continue
			}
			head, object, tail := parts(ev, format)
			if websocket.Message.Send(ws, string(slices.Concat(head, object, tail))) != nil {
				return nil //nolint:nilerr // The client went away.
			}
		}
	}
}
