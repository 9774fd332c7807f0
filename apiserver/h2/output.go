// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	// outEnough is how much is collected before it is written though nobody asks for it, and outMost what handlers may have waiting to be written.
	// Answers to frames go above that, up to outFull, which handlers alone don't reach. From there on no more frames are read: who stopped before might
	// wait for a client that has its own frames read before it reads.
	outEnough = 64 << 10
	outMost   = 256 << 10
	outFull   = 2*outMost + outEnough
	// stuck is how long a client may need, and half of it how long it may need at least, for what is being written. Then its connection is ended.
	stuck = time.Minute
	// rounds is how often a handler writes what others add while it writes, before a goroutine goes on for it.
	rounds = 4
)

// output collects frames. Its owner's lock guards it.
type output struct {
	buffers *buffers
	// pending is what the next write takes; nil when there is nothing.
	pending []byte
	// writing is set while somebody writes, who takes what comes to be pending meanwhile.
	writing bool
	// deadline of the connection's writes, as it was set last.
	deadline time.Time
}

// Write implements io.Writer. It does not fail.
func (o *output) Write(p []byte) (int, error) {
	if o.pending == nil {
		o.pending = o.buffers.get()
	}
	o.pending = append(o.pending, p...)
	return len(p), nil
}

// data adds a DATA frame.
func (o *output) data(id uint32, payload []byte, end bool) {
	o.dataHead(id, len(payload), end)
	_, _ = o.Write(payload) // It does not fail.
}

// pieces adds DATA frames of no more than most bytes each, with all pieces one after the other, which are size bytes.
func (o *output) pieces(id uint32, pieces [][]byte, size, most int) {
	room := 0
	for _, p := range pieces {
		for len(p) > 0 {
			if room == 0 {
				room = min(size, most)
				size -= room
				o.dataHead(id, room, false)
			}
			n := min(room, len(p))
			_, _ = o.Write(p[:n]) // It does not fail.
			p, room = p[n:], room-n
		}
	}
}

func (o *output) dataHead(id uint32, size int, end bool) {
	head := [9]byte{byte(size >> 16), byte(size >> 8), byte(size), byte(http2.FrameData), 0}
	binary.BigEndian.PutUint32(head[5:], id)
	if end {
		head[4] = byte(http2.FlagDataEndStream)
	}
	_, _ = o.Write(head[:]) // It does not fail.
}

// patience says whether a write may be late by what other goroutines are about to do.
type patience bool

const (
	atOnce   patience = false
	withMore patience = true // Lets goroutines run that were woken before: they may have something to send, too.
)

// pushLocked has what is pending written: by the caller, or by who is at it. It gives up the lock meanwhile.
func (c *conn) pushLocked(p patience) {
	if c.out.writing || len(c.out.pending) == 0 {
		return
	}
	c.out.writing = true
	if p == withMore {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	c.writeLocked(rounds)
}

// writeLocked writes until nothing is pending, or so often; then a goroutine of its own goes on.
func (c *conn) writeLocked(most int) {
	for ; len(c.out.pending) > 0 && c.err == nil; most-- {
		if most == 0 {
			go c.writeOn()
			return
		}
		data := c.out.pending
		c.out.pending = nil
		now := time.Now()
		late := c.out.deadline.Sub(now) < stuck/2
		if late {
			c.out.deadline = now.Add(stuck)
		}
		deadline := c.out.deadline
		c.mu.Unlock()
		err := c.write(data, late, deadline)
		c.server.buffers.put(data)
		c.mu.Lock()
		if err != nil {
			c.failLocked(err)
		}
		c.nextLocked()
		c.free.Broadcast()
	}
	c.out.writing = false
	c.free.Broadcast()
}

// writeOn goes on writing for who has something else to do.
func (c *conn) writeOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLocked(-1)
}

// pushApartLocked has what is pending written by others than the caller, who must go on whatever the client takes.
func (c *conn) pushApartLocked() {
	if !c.out.writing && len(c.out.pending) > 0 {
		c.out.writing = true
		go c.writeOn()
	}
}

// drainLocked returns when everything that was pending has been written, or can't be.
func (c *conn) drainLocked() {
	for c.err == nil && (c.out.writing || len(c.out.pending) > 0) {
		c.pushLocked(atOnce)
		if c.out.writing {
			c.free.Wait()
		}
	}
}

// write sends data by one system call, where the socket takes it.
func (c *conn) write(data []byte, late bool, deadline time.Time) error {
	if late {
		if err := c.nc.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	if c.cork == nil || len(data) <= beginFrame {
		_, err := c.nc.Write(data)
		return err
	}
	c.cork.hold()
	_, err := c.nc.Write(data)
	return errors.Join(err, c.cork.release())
}

// buffers keeps those that are not in use.
type buffers struct{ pool sync.Pool }

// bufferSize is what a buffer begins with; those that grew beyond outMost by more than a little are not kept.
const bufferSize = 4 << 10

func (b *buffers) get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, bufferSize)
}

func (b *buffers) put(p []byte) {
	if cap(p) > 0 && cap(p) <= outMost+outEnough {
		b.pool.Put(&p)
	}
}
