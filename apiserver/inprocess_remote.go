// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
)

// elsewhere is the backend for a group-version that another server serves, nil for those of this one.
func (l *local) elsewhere(gv schema.GroupVersion) (client.Backend, error) {
	if l.server.parts.Aggregate == nil || l.server.parts.Aggregate(gv) == nil {
		return nil, nil //nolint:nilnil // no other backend is no error
	}
	return l.remote()
}

// newRemote makes a backend that sends requests down the request path as HTTP, without socket and authentication: what other servers serve is
// only there as bytes.
func (l *local) newRemote() (client.Backend, error) {
	return client.NewHTTP(client.HTTPConfig{
		Server: "https://localhost", UserAgent: l.agent, Catalog: l.server.cfg.Catalog, RoundTripper: &inside{server: l.server, handler: l.handler()},
	})
}

// inside is a transport to a handler of this process.
type inside struct {
	server  *Server
	handler http.Handler
}

// RoundTrip implements http.RoundTripper. The answer's body is read while the handler writes it; closing it, or the server's end, ends the
// handler's context.
func (t *inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.server.streams.begin() {
		return nil, http.ErrServerClosed
	}
	ctx, cancel := context.WithCancel(r.Context())
	body, to := io.Pipe()
	stop := context.AfterFunc(t.server.stopping, func() {
		cancel()
		_ = body.CloseWithError(http.ErrServerClosed) // Never fails, and frees a handler whose reader does not read.
	})
	served := r.Clone(ctx)
	if served.Body == nil {
		served.Body = http.NoBody
	}
	w := &streamed{header: http.Header{}, to: to, begun: make(chan struct{})}
	go func() {
		defer t.server.streams.end()
		defer cancel()
		defer stop()
		defer func() {
			if v := recover(); v != nil { // The answer was broken off, as it says by this.
				_ = to.CloseWithError(fmt.Errorf("%s %s: answer broken off: %v", r.Method, r.URL.Path, v))
			}
		}()
		t.handler.ServeHTTP(w, served)
		w.WriteHeader(http.StatusOK)
		_ = to.Close() // Never fails.
	}()
	select {
	case <-w.begun:
	case <-ctx.Done():
		select {
		case <-w.begun: // An answer without a body is complete by now, and its handler's context over.
		default:
			_ = body.Close() // As above.
			return nil, context.Cause(ctx)
		}
	}
	return &http.Response{
		StatusCode: w.code, Status: http.StatusText(w.code), Header: w.sent, Body: &read{ReadCloser: body, done: cancel}, ContentLength: -1,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
	}, nil
}

// streamed is an answer that is read while it is written.
type streamed struct {
	header http.Header
	to     *io.PipeWriter
	once   sync.Once
	// code and sent are set when begun is closed.
	code  int
	sent  http.Header
	begun chan struct{}
}

// Header implements http.ResponseWriter.
func (w *streamed) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *streamed) WriteHeader(code int) {
	if code < http.StatusOK {
		return // Hints before the answer.
	}
	w.once.Do(func() {
		w.code, w.sent = code, w.header.Clone()
		close(w.begun)
	})
}

// Write implements http.ResponseWriter; it blocks until the reader has taken everything.
func (w *streamed) Write(data []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.to.Write(data)
}

// Flush implements http.Flusher: nothing is held back.
func (w *streamed) Flush() { w.WriteHeader(http.StatusOK) }

// read is the body of an answer; closing it ends the handler.
type read struct {
	io.ReadCloser
	done context.CancelFunc
}

// Close implements io.Closer.
func (b *read) Close() error {
	b.done()
	return b.ReadCloser.Close()
}
