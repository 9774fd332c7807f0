// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// recorder remembers the status of a response.
type recorder struct {
	http.ResponseWriter
	status   int
	wrote    bool
	hijacked bool
	// began, when set, is called when the status is known or, where the body is kept, the beginning of the body.
	began func()
	// told is set once began was called.
	told bool
	// keep, when set, tells for which statuses the body is kept in kept.
	keep func(code int) bool
	kept bytes.Buffer
}

var (
	_ http.Flusher  = (*recorder)(nil)
	_ http.Hijacker = (*recorder)(nil)
)

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	r.begin(status)
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(data []byte) (int, error) {
	r.begin(http.StatusOK)
	if r.keep != nil && r.keep(r.status) {
		r.kept.Write(data)
	}
	r.tell()
	return r.ResponseWriter.Write(data)
}

// begin notes the status; only the first counts.
func (r *recorder) begin(status int) {
	if r.wrote {
		return
	}
	r.status, r.wrote = status, true
	if r.keep == nil || !r.keep(status) {
		r.tell()
	}
}

// tell calls began, once.
func (r *recorder) tell() {
	if r.began != nil && !r.told {
		r.told = true
		r.began()
	}
}

// Flush implements http.Flusher.
func (r *recorder) Flush() {
	_ = http.NewResponseController(r.ResponseWriter).Flush() // Nothing can be done for a writer that can't.
}

// Hijack implements http.Hijacker.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.hijacked = true
	r.begin(http.StatusSwitchingProtocols)
	return http.NewResponseController(r.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach what is below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	switch {
	case r.hijacked:
		return http.StatusSwitchingProtocols
	case r.status == 0:
		return http.StatusOK
	default:
		return r.status
	}
}
