// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package h2 serves HTTP/2 connections (RFC 9113) of a net/http server, in place of the one in net/http.
//
// What differs is who writes. In net/http each piece of an answer goes from its handler to the connection's goroutine, from there to one that
// writes, and back. Here a handler frames its piece under the connection's lock, and writes it itself unless somebody is writing already, who then
// takes it along:
//
//	handler   -> response -> stream \
//	handler   -> response -> stream  > conn.out -> whoever writes -> corked TLS -> the socket
//	read loop -> answers to frames  /
//
// A handler that only waits for what it is to pass on, as that of a watch, may leave it to the connection (Pusher): one goroutine of the connection then takes
// what its streams have, and writes it.
//
// Handlers and pushes run on goroutines that are used again (workers).
//
// A watch event that goes to fifty streams of a connection so costs a few system calls, not fifty, and one goroutine that wakes, not fifty
// (TestWritesOfManyStreamsAreFew). The window updates that fifty streams are answered with are read a few at a time, too (socket).
//
// Frames and header compression are those of golang.org/x/net/http2. Not served, as in net/http: server push, priorities, CONNECT, trailers of
// requests (they are read and dropped).
package h2

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Defaults where the http.Server says nothing.
const (
	defaultStreams     = 250
	defaultHeaderBytes = http.DefaultMaxHeaderBytes
	defaultBegin       = 30 * time.Second
)

// Attach has the connections of server that speak HTTP/2 served here. Call it before the server serves. Heeded of the server: Handler,
// ReadHeaderTimeout (for what a connection begins with), IdleTimeout, MaxHeaderBytes, HTTP2.MaxConcurrentStreams, Shutdown and Close. Panics of handlers go to logger.
// Requests have no other bound of time than what their handlers set with http.ResponseController.
func Attach(server *http.Server, logger *slog.Logger) {
	s := newServer(server, logger)
	if server.TLSNextProto == nil {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	server.TLSNextProto["h2"] = func(_ *http.Server, nc *tls.Conn, handler http.Handler) {
		ctx := context.Background()
		if h, ok := handler.(interface{ BaseContext() context.Context }); ok { // As net/http gives it to its own.
			ctx = h.BaseContext()
		}
		state := nc.ConnectionState()
		s.serve(ctx, nc, &state, handler)
	}
	server.RegisterOnShutdown(s.shutdown)
}

// server is what the connections of one http.Server share.
type server struct {
	maxStreams     int
	maxHeaderBytes int
	begin, idle    time.Duration // idle 0: forever
	log            *slog.Logger
	buffers        buffers
	workers        workers
	date           date

	mu       sync.Mutex
	conns    map[*conn]struct{}
	stopping bool
}

func newServer(from *http.Server, logger *slog.Logger) *server {
	s := &server{
		maxStreams: defaultStreams, maxHeaderBytes: from.MaxHeaderBytes, begin: from.ReadHeaderTimeout, idle: from.IdleTimeout,
		log: logger, conns: map[*conn]struct{}{},
	}
	if h := from.HTTP2; h != nil && h.MaxConcurrentStreams > 0 {
		s.maxStreams = h.MaxConcurrentStreams
	}
	if s.maxHeaderBytes <= 0 {
		s.maxHeaderBytes = defaultHeaderBytes
	}
	if s.begin <= 0 {
		s.begin = defaultBegin
	}
	return s
}

// serve owns a connection until it and all its handlers have ended.
func (s *server) serve(ctx context.Context, nc net.Conn, state *tls.ConnectionState, handler http.Handler) {
	s.workers.join()
	defer s.workers.leave()
	c := newConn(ctx, s, nc, state, handler)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		c.leave()
	}
	c.run()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// shutdown has every connection take no more requests, and end with those that it has.
func (s *server) shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for c := range s.conns {
		go c.leave() // Saying so may have to wait for the client.
	}
}
