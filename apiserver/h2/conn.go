// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// connWindow and streamWindow bound what clients may send of bodies that nobody has read yet.
	connWindow   = 1 << 20
	streamWindow = 256 << 10
	// beginWindow is what every window is until settings or updates say otherwise, and maxWindow what none may grow beyond (RFC 9113, 6.9).
	beginWindow = 1<<16 - 1
	maxWindow   = 1<<31 - 1
	// beginFrame is the payload that every peer takes (RFC 9113, 4.2).
	beginFrame = 16 << 10
	// tableSize of header compression, in both directions (RFC 9113, 6.5.2, the default).
	tableSize = 4 << 10
	// farewell is how long a connection that has ended may take to say so, and farewellBytes what it reads meanwhile: to close a socket
	// that has unread bytes takes from the client what it has not read yet.
	farewell      = time.Second
	farewellBytes = 1 << 20
)

// errGone is why streams end whose connection did.
var errGone = errors.New("http2: connection ended")

// conn is one connection. Its goroutine reads; whoever has something to send writes.
//
// Nothing blocks under mu: who waits, or writes, gives it up meanwhile.
type conn struct {
	server  *server
	nc      net.Conn
	socket  net.Conn // nc, or what is below its TLS: closing it waits for nobody
	cork    *cork    // socket, where it is one
	state   *tls.ConnectionState
	remote  string
	handler http.Handler
	ctx     context.Context //nolint:containedctx // What net/http gives all requests of the connection; it does not end.

	// in and reader belong to the goroutine that reads.
	in     *bufio.Reader
	reader *http2.Framer

	mu      sync.Mutex
	streams map[uint32]*stream
	// lastID is the highest stream that the client began.
	lastID uint32
	// running handlers, those of streams that ended before them included. free is broadcast when one ends, and with every write.
	running int
	free    sync.Cond
	// leaving is set when no more streams are begun.
	leaving bool
	// err is why nothing can be written any more.
	err error
	// idle ends the connection when it has had no stream for a time; nil without one.
	idle *time.Timer

	// Sending. window is what the client takes of DATA on the connection, streamBegin what it takes on a new stream.
	window      int64
	streamBegin int64
	maxFrame    int // that the client takes, and we make
	out         output
	// waiting streams want room in window or out, first come first served.
	waiting []*stream
	// ready streams have something to take; pushing is set while a worker takes it, told is how many that has told something.
	ready   []*stream
	pushing bool
	told    int
	// framer writes into out. packer compresses into packed.
	framer *http2.Framer
	packer *hpack.Encoder
	packed bytes.Buffer

	// Receiving. credit is what the client may still send on the connection, owed what it may be given again.
	credit, owed int
}

func newConn(ctx context.Context, s *server, nc net.Conn, state *tls.ConnectionState, handler http.Handler) *conn {
	c := &conn{
		server: s, nc: nc, socket: nc, state: state, remote: nc.RemoteAddr().String(), handler: handler, ctx: ctx,
		streams: map[uint32]*stream{}, window: beginWindow, streamBegin: beginWindow, maxFrame: beginFrame, credit: connWindow,
	}
	if t, ok := nc.(*tls.Conn); ok {
		c.socket = t.NetConn()
		c.cork, _ = c.socket.(*cork)
	}
	c.free.L = &c.mu
	c.in = bufio.NewReader(source{c})
	c.reader = http2.NewFramer(nil, c.in)
	c.reader.SetReuseFrames()
	c.reader.SetMaxReadFrameSize(beginFrame)
	c.reader.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	c.reader.MaxHeaderListSize = uint32(min(s.maxHeaderBytes, maxWindow))
	c.framer = http2.NewFramer(&c.out, nil)
	c.packer = hpack.NewEncoder(&c.packed)
	c.packer.SetMaxDynamicTableSizeLimit(tableSize)
	c.out.buffers = &s.buffers
	return c
}

// run serves the connection to its end.
func (c *conn) run() {
	defer c.nc.Close()
	err := c.begin()
	if err == nil {
		err = c.read()
	}
	c.end(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.running > 0 || c.out.writing || c.pushing {
		c.free.Wait()
	}
}

// begin exchanges what a connection begins with (RFC 9113, 3.4).
func (c *conn) begin() error {
	c.mu.Lock()
	_ = c.framer.WriteSettings( // Writing into a buffer does not fail.
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.server.maxStreams)},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.reader.MaxHeaderListSize},
	)
	_ = c.framer.WriteWindowUpdate(0, connWindow-beginWindow) // As above.
	c.pushLocked(atOnce)
	c.mu.Unlock()
	if err := c.nc.SetReadDeadline(time.Now().Add(c.server.begin)); err != nil {
		return err
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.in, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	frame, err := c.reader.ReadFrame()
	if err != nil {
		return err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if err := c.settings(settings); err != nil {
		return err
	}
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pushLocked(atOnce)
	if c.server.idle > 0 {
		c.idle = time.AfterFunc(c.server.idle, c.leaveIdle)
	}
	c.finishLocked() // It may have been told to leave.
	return nil
}

// leaveIdle ends a connection that has no streams.
func (c *conn) leaveIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) == 0 {
		c.leaveLocked()
	}
}

// leave tells the client that no more streams are served, and ends the connection after the last one.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveLocked()
}

func (c *conn) leaveLocked() {
	if c.leaving || c.err != nil {
		return
	}
	c.leaving = true
	_ = c.framer.WriteGoAway(c.lastID, http2.ErrCodeNo, nil) // Writing into a buffer does not fail.
	c.pushLocked(atOnce)
	c.finishLocked()
}

// finishLocked lets the goroutine that reads end when nothing is left to do.
func (c *conn) finishLocked() {
	if c.leaving && len(c.streams) == 0 {
		_ = c.nc.SetReadDeadline(time.Now()) // One that fails has ended.
	}
}

// end tells the client why the connection ends, as far as it may know, and ends all streams.
func (c *conn) end(cause error) {
	c.mu.Lock()
	if c.idle != nil {
		c.idle.Stop()
	}
	code, tell := http2.ErrCodeNo, false
	if broken, ok := errors.AsType[http2.ConnectionError](cause); ok {
		code, tell = http2.ErrCode(broken), true
	} else if errors.Is(cause, http2.ErrFrameTooLarge) {
		code, tell = http2.ErrCodeFrameSize, true
	}
	if tell && c.err == nil {
		_ = c.framer.WriteGoAway(c.lastID, code, nil) // Writing into a buffer does not fail.
	}
	if tell || c.leaving {
		c.drainLocked()
	}
	polite := c.err == nil && (tell || c.leaving)
	c.failLocked(errGone)
	c.mu.Unlock()
	if !polite {
		return
	}
	_ = c.nc.SetDeadline(time.Now().Add(farewell)) // What fails here has ended, and is closed.
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // As above.
	}
	_, _ = io.CopyN(io.Discard, c.in, farewellBytes) // As above.
}

// failLocked ends everything that would still read or write.
func (c *conn) failLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	for _, st := range c.streams {
		c.closeLocked(st, err)
	}
	c.free.Broadcast()
	if err != errGone { //nolint:errorlint // It is our own, bare.
		_ = c.socket.Close() // The goroutine that reads finds out.
	}
}

// reset ends a stream in both directions.
func (c *conn) reset(id uint32, code http2.ErrCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id%2 == 1 && id > c.lastID {
		c.lastID = id // It was begun, badly.
	}
	c.resetLocked(id, code)
}

func (c *conn) resetLocked(id uint32, code http2.ErrCode) {
	_ = c.framer.WriteRSTStream(id, code) // Writing into a buffer does not fail.
	if st := c.streams[id]; st != nil {
		c.closeLocked(st, http2.StreamError{StreamID: id, Code: code})
	}
}

// closeLocked ends a stream: nothing is read of it or written to it any more. Its handler learns by its context, and from what it calls.
func (c *conn) closeLocked(st *stream, err error) {
	if st.err != nil {
		return
	}
	st.err = err
	delete(c.streams, st.id)
	c.giveBackLocked(st.body.dropLocked(err))
	st.cancel()
	if st.lingering != nil {
		st.lingering.Stop()
	}
	wake(st.sending)
	if len(c.streams) == 0 {
		if c.idle != nil && c.err == nil {
			c.idle.Reset(c.server.idle)
		}
		c.finishLocked()
	}
}

// giveBackLocked lets the client send so many bytes more on the connection, before long: with the next push.
func (c *conn) giveBackLocked(n int) {
	if c.owed += n; c.owed < connWindow/4 || c.err != nil {
		return
	}
	_ = c.framer.WriteWindowUpdate(0, uint32(c.owed)) // Writing into a buffer does not fail.
	c.credit += c.owed
	c.owed = 0
}
