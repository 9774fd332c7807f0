// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// errDone is what a handler gets that goes on with a stream after it returned.
var errDone = errors.New("http2: the request has been answered")

// stream is one request and its answer. Its fields are guarded by conn.mu; the methods of response and body are for the handler.
type stream struct {
	conn   *conn
	id     uint32
	cancel context.CancelFunc
	body   body
	// err is why the stream ended; nil while it has not.
	err error
	// window is what the client takes of DATA on it.
	window int64
	// sending is woken when there may be room to send; nil while nobody waits.
	sending chan struct{}
	// push sends while the handler waits.
	push push
	// writeBy is when the client must have taken what is written; zero: never.
	writeBy time.Time
	// lingering ends a stream that was answered before its body ended; nil for others.
	lingering *time.Timer
}

// linger is how long a client that was answered may go on sending a body, which is dropped. To be told at once that the rest is not wanted
// (RFC 9113, 8.1) has some clients, curl 7 among them, throw away the answer.
const linger = time.Second

// exchange is a request to be answered.
type exchange struct {
	stream  *stream
	handler http.Handler
	request *http.Request
}

// do implements task.
func (x *exchange) do() {
	w := &response{stream: x.stream, request: x.request}
	defer x.stream.finish(w)
	x.handler.ServeHTTP(w, x.request)
}

// finish sends what the handler has left to send, and ends the stream. A panic ends the stream as well, not the process.
func (st *stream) finish(w *response) {
	if v := recover(); v != nil {
		if v != http.ErrAbortHandler { //nolint:errorlint // The contract of net/http is the bare value.
			st.conn.server.log.Error("request panicked", "panic", fmt.Sprint(v), "path", w.request.URL.Path, "stack", string(debug.Stack()))
		}
		w.aborted = true
	}
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.aborted {
		if st.err == nil {
			c.resetLocked(st.id, http2.ErrCodeInternal)
		}
	} else if w.endLocked() == nil && st.err == nil && !st.body.ended {
		st.lingerLocked()
	}
	st.cancel()
	if st.lingering == nil {
		c.closeLocked(st, errDone)
	}
	c.running--
	c.free.Broadcast()
	c.pushLocked(atOnce)
}

// lingerLocked drops what comes of the body, until the client has sent all of it, ends the stream, or has had its time.
func (st *stream) lingerLocked() {
	c := st.conn
	st.body.closed = true
	c.giveBackLocked(st.body.dropLocked(errDone))
	st.lingering = time.AfterFunc(linger, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if st.err == nil {
			c.resetLocked(st.id, http2.ErrCodeNo)
			c.pushLocked(atOnce)
		}
	})
}

// sendLocked frames p, as the client lets it, and waits where it does not. The frames go out with the next push, or once they are many.
func (st *stream) sendLocked(p []byte, end bool) error {
	c := st.conn
	for st.err == nil {
		n := st.roomLocked(len(p))
		if n == 0 && len(p) > 0 {
			st.waitLocked()
			continue
		}
		st.window -= int64(n)
		c.window -= int64(n)
		rest := p[n:]
		c.out.data(st.id, p[:n], end && len(rest) == 0)
		c.passLocked(st)
		if len(c.out.pending) >= outEnough {
			c.pushLocked(atOnce)
		}
		if p = rest; len(p) == 0 {
			return nil
		}
	}
	c.passLocked(st)
	return st.err
}

// roomLocked is how much of n bytes one frame may take now.
func (st *stream) roomLocked(n int) int {
	c := st.conn
	if len(c.out.pending) >= outMost || (len(c.waiting) > 0 && c.waiting[0] != st) {
		return 0
	}
	return max(0, int(min(int64(n), st.window, c.window, int64(c.maxFrame))))
}

// waitLocked returns when there may be room, or the stream has ended. It gives up the lock meanwhile.
func (st *stream) waitLocked() {
	c := st.conn
	c.pushLocked(atOnce) // Otherwise nobody may ever make room.
	switch {
	case st.err != nil || st.roomLocked(1) > 0:
		return
	case st.window <= 0:
		c.passLocked(st)
	case !slices.Contains(c.waiting, st):
		c.waiting = append(c.waiting, st)
	}
	if st.pauseLocked(&st.sending, st.writeBy) != nil && st.err == nil {
		c.resetLocked(st.id, http2.ErrCodeInternal)
	}
}

// pauseLocked gives up the lock until what at points to is woken. It returns os.ErrDeadlineExceeded when the time is over.
func (st *stream) pauseLocked(at *chan struct{}, deadline time.Time) error {
	if *at == nil {
		*at = make(chan struct{}, 1)
	}
	woken := *at
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	st.conn.mu.Unlock()
	defer st.conn.mu.Lock()
	select {
	case <-woken:
		return nil
	case <-late:
		return os.ErrDeadlineExceeded
	}
}

// wake tells who waits, if anybody does. The channel has one place: a second token would say no more.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// nextLocked wakes the stream that has waited longest for room in the connection.
func (c *conn) nextLocked() {
	if len(c.waiting) > 0 && c.window > 0 && len(c.out.pending) < outMost {
		wake(c.waiting[0].sending)
	}
}

// passLocked takes a stream out of those that wait, if it is one; then the next has its turn.
func (c *conn) passLocked(st *stream) {
	if i := slices.Index(c.waiting, st); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		c.nextLocked()
	}
}
