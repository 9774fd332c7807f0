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
	var buf []byte
	for {
		events, err := source.Next(r.Context())
		if err != nil {
			return ended(err)
		}
		buf = buf[:0]
		for _, ev := range events {
			if buf, err = appendFrame(buf, format, ev); err != nil {
				return err
			}
		}
		if _, err := w.Write(buf); err != nil {
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

// appendFrame appends one event as it travels in a plain stream.
func appendFrame(to []byte, format codec.Format, ev Event) ([]byte, error) {
	if format != codec.Protobuf {
		return appendJSON(to, ev), nil
	}
	message, err := protobuf(ev)
	if err != nil {
		return nil, err
	}
	to = binary.BigEndian.AppendUint32(to, uint32(len(message))) // Objects are bounded far below 4 GiB.
	return append(to, message...), nil
}

func appendJSON(to []byte, ev Event) []byte {
	to = append(to, `{"type":"`...)
	to = append(to, ev.Type...)
	to = append(to, `","object":`...)
	object := ev.Object
	for len(object) > 0 && object[len(object)-1] == '\n' {
		object = object[:len(object)-1]
	}
	to = append(to, object...)
	return append(to, "}\n"...)
}

func protobuf(ev Event) ([]byte, error) {
	return (&metav1.WatchEvent{Type: ev.Type, Object: runtime.RawExtension{Raw: ev.Object}}).Marshal()
}

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
