// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"

	"golang.org/x/net/http2"
)

// read deals with what the client sends until the connection ends. The error says why it did.
func (c *conn) read() error {
	for {
		frame, err := c.reader.ReadFrame()
		if err == nil {
			err = c.frame(frame)
		}
		if stream, ok := errors.AsType[http2.StreamError](err); ok {
			c.reset(stream.StreamID, stream.Code)
		} else if err != nil {
			return err
		}
		c.answer()
	}
}

// answer sends what frames were answered with where that is much. Else it waits for those of more frames that have come (source).
func (c *conn) answer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out.pending) >= outEnough {
		c.pushApartLocked()
	}
	for len(c.out.pending) >= outFull && c.err == nil { // The client takes nothing.
		c.free.Wait()
	}
}

// source is what a connection is read from: before it waits for the client, be it for half a frame, the client gets what it may wait for.
type source struct{ conn *conn }

// Read implements io.Reader.
func (s source) Read(p []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	c.pushApartLocked()
	c.mu.Unlock()
	return c.nc.Read(p)
}

func (c *conn) frame(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.headers(f)
	case *http2.DataFrame:
		return c.data(f)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.WindowUpdateFrame:
		return c.update(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.mu.Lock()
			_ = c.framer.WritePing(true, f.Data) // Writing into a buffer does not fail.
			c.mu.Unlock()
		}
	case *http2.RSTStreamFrame:
		return c.cancelled(f)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil // Others, and GOAWAY, ask for nothing.
}

// settings applies those of the client (RFC 9113, 6.5).
func (c *conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f.ForeachSetting(c.settingLocked); err != nil {
		return err
	}
	return c.framer.WriteSettingsAck()
}

func (c *conn) settingLocked(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.packer.SetMaxDynamicTableSize(s.Val)
	case http2.SettingMaxFrameSize:
		c.maxFrame = min(int(s.Val), outEnough)
	case http2.SettingInitialWindowSize:
		more := int64(s.Val) - c.streamBegin
		c.streamBegin = int64(s.Val)
		for _, st := range c.streams {
			if st.window += more; st.window > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
			wake(st.sending)
		}
	default: // Of no concern to a server that pushes nothing.
	}
	return nil
}

// update gives more room to send.
func (c *conn) update(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.nextLocked()
		return nil
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return c.pastLocked(f.StreamID)
	}
	if st.window += int64(f.Increment); st.window > maxWindow {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeFlowControl}
	}
	wake(st.sending)
	return nil
}

// pastLocked is nil for a stream that was, and the error for one that never began.
func (c *conn) pastLocked(id uint32) error {
	if id%2 == 0 || id > c.lastID {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// cancelled ends a stream that the client wants no more.
func (c *conn) cancelled(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[f.StreamID]
	if st == nil {
		return c.pastLocked(f.StreamID)
	}
	c.closeLocked(st, http2.StreamError{StreamID: st.id, Code: f.ErrCode})
	return nil
}

// headers begins a stream, or ends its body with trailers, which are dropped.
func (c *conn) headers(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	c.mu.Lock()
	st := c.streams[id]
	switch {
	case st != nil:
		defer c.mu.Unlock()
		return st.trailersLocked(f)
	case id%2 == 0:
		c.mu.Unlock()
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case id <= c.lastID:
		c.mu.Unlock()
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	case c.leaving: // It was told that this one is not served.
		c.mu.Unlock()
		return nil
	}
	c.lastID = id
	full := len(c.streams) >= c.server.maxStreams
	c.mu.Unlock()
	switch {
	case f.HasPriority() && f.Priority.StreamDep == id:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	case full:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream}
	}
	return c.start(f)
}

// start runs the handler of a new stream. While as many run as there may be streams it waits for one to end: a client that resets its streams
// does not get more of the server for that (CVE-2023-44487). Some of those that run are of streams that ended, and will soon end, too.
func (c *conn) start(f *http2.MetaHeadersFrame) error {
	st, req, err := c.request(f)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.running >= c.server.maxStreams && c.err == nil {
		c.pushApartLocked() // It may be what those who run wait for.
		if c.running >= c.server.maxStreams {
			c.free.Wait()
		}
	}
	if c.err != nil {
		st.cancel()
		return c.err
	}
	if c.idle != nil {
		c.idle.Stop()
	}
	c.running++
	st.window = c.streamBegin
	c.streams[st.id] = st
	handler := c.handler
	if f.Truncated {
		handler = tooLarge
	}
	c.server.workers.run(&exchange{st, handler, req})
	return nil
}

// data takes a piece of a body.
func (c *conn) data(f *http2.DataFrame) error {
	id, size, payload := f.StreamID, int(f.Length), f.Data()
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.credit {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	c.credit -= size
	st := c.streams[id]
	if st == nil || st.body.ended {
		c.giveBackLocked(size)
		if err := c.pastLocked(id); err != nil {
			return err
		}
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	}
	return st.body.addLocked(payload, size, f.StreamEnded())
}
