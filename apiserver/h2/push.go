// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"context"
	"net/http"
	"runtime"
	"time"
)

// Pusher sends for a handler while that waits. What a change has to tell to fifty streams of a connection is then taken and framed by one goroutine
// of the connection, and no handler runs for it.
type Pusher interface {
	// Notify says that there may be something to take. It does not block, and may be called at any time on any goroutine.
	Notify()
	// Push flushes what the handler has written. Then it has take called, now and after each Notify, and sends what that returns, until take
	// says that it is Done, the client leaves no room, or ctx is done. It returns what was taken and not sent. Calls of take come one
	// after the other, on any goroutine, and none is left when Push returns; take must not block. The pieces may be reused by the next call.
	Push(ctx context.Context, take func() (pieces [][]byte, then Then)) (left [][]byte)
}

// Then is what a push goes on with.
type Then uint8

const (
	// Wait says that the next Notify tells when there is more.
	Wait Then = iota
	// Again says that there is more to take now.
	Again
	// Done says that the handler goes on.
	Done
)

// PusherOf finds the Pusher of a response, if it has one: it is that of an HTTP/2 stream served here.
func PusherOf(w http.ResponseWriter) (Pusher, bool) {
	for {
		switch v := w.(type) {
		case *response:
			return v, v.request.Method != http.MethodHead
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil, false
		}
	}
}

// push is that of a stream. conn.mu guards it.
type push struct {
	// take is set while the handler waits in Push.
	take func() ([][]byte, Then)
	// notified is set when there may be something that was not taken; queued while the stream is in conn.ready, taking while take runs.
	notified, queued, taking bool
	// left is what the handler gets back, ended is woken then.
	left  [][]byte
	ended chan struct{}
	// panicked is what take panicked with, for the handler to panic with.
	panicked any
}

// Notify implements Pusher.
func (w *response) Notify() {
	st := w.stream
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	st.push.notified = true
	c.queueLocked(st)
}

// Push implements Pusher.
func (w *response) Push(ctx context.Context, take func() ([][]byte, Then)) [][]byte {
	st := w.stream
	c, p := st.conn, &st.push
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.sendSmallLocked() != nil {
		return nil // ctx will be done.
	}
	if p.ended == nil {
		p.ended = make(chan struct{}, 1)
	}
	p.take, p.notified = take, true
	c.queueLocked(st)
	c.mu.Unlock()
	select {
	case <-p.ended:
	case <-ctx.Done():
	}
	c.mu.Lock()
	p.take = nil
	for p.taking {
		c.free.Wait()
	}
	select {
	case <-p.ended:
	default:
	}
	left := p.left
	p.left = nil
	if v := p.panicked; v != nil {
		p.panicked = nil
		panic(v)
	}
	return left
}

// queueLocked has something taken of a stream, where there may be something and somebody waits for it.
func (c *conn) queueLocked(st *stream) {
	p := &st.push
	if p.take == nil || !p.notified || p.queued {
		return
	}
	p.queued = true
	c.ready = append(c.ready, st)
	if !c.pushing {
		c.pushing = true
		c.server.workers.run((*pusher)(c))
	}
}

const (
	// crowd is how many streams are told something by one push for the reads of their connection to be put off: each client that has read it sends an update of
	// its window, which nobody waits for, and to be woken for each costs more than to deal with it. Network cards do the same with interrupts.
	crowd = 8
	// lull is for how long they are put off, and so how long a request may wait that comes meanwhile.
	lull = 2 * time.Millisecond
)

// pusher is the task of pushing what the streams of a connection have.
type pusher conn

// do implements task.
func (p *pusher) do() { (*conn)(p).push() }

// push takes what the ready streams have, and writes it, until there are none.
func (c *conn) push() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = 0
	for len(c.ready) > 0 {
		for len(c.ready) > 0 {
			c.takeReadyLocked()
			c.mu.Unlock()
			runtime.Gosched() // Who notifies may be at it still.
			c.mu.Lock()
		}
		c.pushLocked(atOnce)
	}
	c.pushing = false
	c.free.Broadcast()
}

// tellLocked notes that one more stream is told something. Each crowd of them puts reads off.
func (c *conn) tellLocked() {
	if c.told++; c.told%crowd == 0 && len(c.waiting) == 0 && c.cork != nil && c.cork.socket != nil {
		c.cork.socket.putOff(lull)
	}
}

// takeReadyLocked takes from each stream that is ready now. What is much is written at once.
func (c *conn) takeReadyLocked() {
	ready := c.ready
	c.ready = make([]*stream, 0, len(ready))
	for _, st := range ready {
		st.push.queued = false
		for c.out.writing && len(c.out.pending) >= outEnough && c.err == nil {
			c.free.Wait()
		}
		c.takeLocked(st)
		if len(c.out.pending) >= outEnough {
			c.pushLocked(atOnce)
		}
	}
}

// takeLocked takes from one stream, and frames it. It gives up the lock meanwhile.
func (c *conn) takeLocked(st *stream) {
	p := &st.push
	if p.take == nil || st.err != nil {
		return
	}
	p.notified, p.taking = false, true
	pieces, then := c.callLocked(p)
	p.taking = false
	if !st.framedLocked(pieces) {
		p.left, then = pieces, Done
	}
	switch {
	case p.take == nil: // The handler waits for this to end.
		c.free.Broadcast()
	case then == Done:
		p.take = nil
		wake(p.ended)
	case then == Again:
		p.notified = true
		c.queueLocked(st)
	case p.notified:
		c.queueLocked(st)
	}
}

// callLocked calls take, and gives up the lock meanwhile. A panic is the handler's.
func (c *conn) callLocked(p *push) (pieces [][]byte, then Then) {
	take := p.take
	c.mu.Unlock()
	defer func() {
		v := recover()
		c.mu.Lock()
		if v != nil {
			p.panicked, pieces, then = v, nil, Done
		}
	}()
	return take()
}

// framedLocked frames pieces as one, unless the client leaves no room for them, or they are too much to be held.
func (st *stream) framedLocked(pieces [][]byte) bool {
	c := st.conn
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	switch {
	case size == 0 || st.err != nil:
		return true
	case size > outMost || int64(size) > min(st.window, c.window) || len(c.waiting) > 0:
		return false
	}
	st.window -= int64(size)
	c.window -= int64(size)
	c.out.pieces(st.id, pieces, size, c.maxFrame)
	c.tellLocked()
	return true
}
