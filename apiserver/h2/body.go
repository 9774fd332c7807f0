// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"io"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// body is that of a request. conn.mu guards its fields.
type body struct {
	stream *stream
	// declared is its length by the request's headers, -1 without one; received what has come of it.
	declared, received int64
	// unread is what has come and was not read, from read on.
	unread []byte
	read   int
	// ended is set when the client has sent all of it, err when reading ends behind what is unread.
	ended bool
	err   error
	// closed is set when the handler wants no more of it.
	closed bool
	// asked is unset while the client waits to be told that somebody reads (RFC 9110, 10.1.1).
	asked bool
	// credit is what the client may still send, owed what it may be given again.
	credit, owed int
	// reading is woken when there may be something to read; nil while nobody waits. readBy is until when it waits; zero: forever.
	reading chan struct{}
	readBy  time.Time
}

var _ io.ReadCloser = (*body)(nil)

// Read implements io.Reader. It waits for the client, no longer than the request's read deadline.
func (b *body) Read(p []byte) (int, error) {
	c := b.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !b.asked {
		b.asked = true
		if b.stream.err == nil {
			c.informLocked(b.stream, http.StatusContinue, nil)
			c.pushLocked(atOnce)
		}
	}
	for b.read == len(b.unread) {
		switch {
		case b.closed:
			return 0, http.ErrBodyReadAfterClose
		case b.err != nil:
			return 0, b.err
		case len(p) == 0:
			return 0, nil
		}
		if err := b.stream.pauseLocked(&b.reading, b.readBy); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.unread[b.read:])
	b.read += n
	if b.read == len(b.unread) {
		b.unread, b.read = b.unread[:0], 0
	}
	b.refillLocked(n)
	return n, nil
}

// Close implements io.Closer: what comes of the body from now on is dropped.
func (b *body) Close() error {
	c := b.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	b.closed = true
	b.refillLocked(b.dropLocked(http.ErrBodyReadAfterClose))
	return nil
}

// refillLocked lets the client send so many bytes more, on the connection and of the body, and tells it where that is due.
func (b *body) refillLocked(n int) {
	c := b.stream.conn
	before := len(c.out.pending)
	c.giveBackLocked(n)
	b.giveBackLocked(n)
	if len(c.out.pending) > before {
		c.pushLocked(atOnce)
	}
}

// addLocked takes a frame of size bytes, of which payload is not padding.
func (b *body) addLocked(payload []byte, size int, end bool) error {
	c := b.stream.conn
	b.credit -= size
	b.received += int64(len(payload))
	switch {
	case b.credit < 0:
		c.giveBackLocked(size)
		return http2.StreamError{StreamID: b.stream.id, Code: http2.ErrCodeFlowControl}
	case b.declared >= 0 && (b.received > b.declared || (end && b.received < b.declared)):
		c.giveBackLocked(size)
		return http2.StreamError{StreamID: b.stream.id, Code: http2.ErrCodeProtocol}
	}
	if end {
		b.endLocked()
	}
	back := size - len(payload)
	if b.closed {
		back = size
	} else {
		b.keepLocked(payload)
	}
	if back > 0 {
		c.giveBackLocked(back)
		b.giveBackLocked(back)
	}
	wake(b.reading)
	if end && b.stream.lingering != nil {
		c.closeLocked(b.stream, errDone)
	}
	return nil
}

// keepLocked adds to what is unread, which the window of the stream bounds.
func (b *body) keepLocked(payload []byte) {
	if b.unread == nil {
		b.unread = b.stream.conn.server.buffers.get()
	}
	if b.read > len(b.unread)/2 {
		b.unread = b.unread[:copy(b.unread, b.unread[b.read:])]
		b.read = 0
	}
	b.unread = append(b.unread, payload...)
}

// endLocked notes that the client has sent all of the body.
func (b *body) endLocked() {
	b.ended = true
	if b.err == nil {
		b.err = io.EOF
	}
	wake(b.reading)
}

// dropLocked forgets what is unread, and returns how much that was.
func (b *body) dropLocked(why error) int {
	n := len(b.unread) - b.read
	if b.unread != nil {
		b.stream.conn.server.buffers.put(b.unread)
	}
	b.unread, b.read = nil, 0
	if b.err == nil || n > 0 {
		b.err = why
	}
	wake(b.reading)
	return n
}

// giveBackLocked lets the client send so many bytes more of the body, before long: with the next push.
func (b *body) giveBackLocked(n int) {
	if b.owed += n; b.owed < streamWindow/4 || b.ended || b.stream.err != nil {
		return
	}
	_ = b.stream.conn.framer.WriteWindowUpdate(b.stream.id, uint32(b.owed)) // Writing into a buffer does not fail.
	b.credit += b.owed
	b.owed = 0
}
