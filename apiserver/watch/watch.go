// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package watch carries events to HTTP clients: as JSON lines, as length-delimited protobuf, or as WebSocket messages.
package watch

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/codec"
)

// Event is one event with its object already encoded.
type Event struct {
	Type   string
	Object []byte
}

// Source yields events. Next blocks for at least one; io.EOF ends the stream in order. Its slice may be reused.
type Source interface {
	Next(ctx context.Context) ([]Event, error)
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
	object := ev.Object
	if f.format == codec.Protobuf {
		// A WatchEvent: the type, and a RawExtension with the object.
		kind := codec.AppendBytes(nil, 1, []byte(ev.Type))
		inner := codec.AppendLength(nil, 1, len(object))
		head := codec.AppendLength(kind, 2, len(inner)+len(object))
		f.buf = binary.BigEndian.AppendUint32(f.buf, uint32(len(head)+len(inner)+len(object))) // Objects are bounded far below 4 GiB.
		f.buf = append(append(f.buf, head...), inner...)
		return f.addObject(object)
	}
	f.buf = appendHead(f.buf, ev.Type)
	if err := f.addObject(trimmed(object)); err != nil {
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

const tail = "}\n"

func appendHead(to []byte, kind string) []byte {
	to = append(to, `{"type":"`...)
	to = append(to, kind...)
	return append(to, `","object":`...)
}

func trimmed(object []byte) []byte {
	for len(object) > 0 && object[len(object)-1] == '\n' {
		object = object[:len(object)-1]
	}
	return object
}

func appendJSON(to []byte, ev Event) []byte {
	return append(append(appendHead(to, ev.Type), trimmed(ev.Object)...), tail...)
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
			if websocket.Message.Send(ws, string(appendJSON(nil, ev))) != nil {
				return nil //nolint:nilerr // The client went away.
			}
		}
	}
}
