// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// response is what a handler answers with. It is the handler's: one goroutine at a time, but for the deadlines.
type response struct {
	stream  *stream
	request *http.Request
	header  http.Header
	// status is 0 until the handler has chosen it; fields are then those of the header, as they were at that moment.
	status int
	fields fields
	// begun is set when the header has been framed.
	begun bool
	// small is what was written and is not framed yet.
	small []byte
	// length that the handler declared, -1 without, and what it has written.
	length, written int64
	// aborted is set when the handler panicked.
	aborted bool
}

var (
	_ http.Flusher    = (*response)(nil)
	_ io.StringWriter = (*response)(nil)
)

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header, 8)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter. An informational status is sent at once, and does not end the choice.
func (w *response) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // As net/http does.
	}
	c := w.stream.conn
	switch {
	case w.status != 0:
		return
	case status < 200:
		c.mu.Lock()
		if w.stream.err == nil {
			c.informLocked(w.stream, status, w.header)
			c.pushLocked(atOnce)
		}
		c.mu.Unlock()
		return
	}
	w.status = status
	w.fields.take(w.Header())
	w.length = w.fields.length
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) { return write(w, p) }

// WriteString implements io.StringWriter.
func (w *response) WriteString(p string) (int, error) { return write(w, p) }

func write[T string | []byte](w *response, p T) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(p)) > w.length:
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	if len(w.small)+len(p) <= bufferSize {
		if w.small == nil {
			w.small = w.stream.conn.server.buffers.get()
		}
		w.small = append(w.small, p...)
		return len(p), nil
	}
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.begun && len(w.small) == 0 {
		w.sniff([]byte(p[:min(len(p), sniffed)]))
	}
	if err := w.sendSmallLocked(); err != nil {
		return 0, err
	}
	if w.request.Method == http.MethodHead {
		return len(p), nil
	}
	return len(p), w.stream.sendLocked([]byte(p), false)
}

// sniffed is how much http.DetectContentType looks at.
const sniffed = 512

func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() } // Nobody asks.

// FlushError is what http.ResponseController calls.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := w.sendSmallLocked(); err != nil {
		return err
	}
	c.pushLocked(patience(len(c.streams) > 1))
	return w.stream.err
}

// SetReadDeadline is what http.ResponseController calls. It bounds reading the request's body.
func (w *response) SetReadDeadline(t time.Time) error {
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	w.stream.body.readBy = t
	wake(w.stream.body.reading)
	return nil
}

// SetWriteDeadline is what http.ResponseController calls. A client that leaves no room until then loses the stream.
func (w *response) SetWriteDeadline(t time.Time) error {
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	w.stream.writeBy = t
	wake(w.stream.sending)
	return nil
}

// EnableFullDuplex is what http.ResponseController calls. Streams are.
func (w *response) EnableFullDuplex() error { return nil }

// sendSmallLocked frames the header, and what was written.
func (w *response) sendSmallLocked() error {
	st := w.stream
	if st.err != nil {
		return st.err
	}
	if !w.begun {
		w.begun = true
		w.sniff(w.small)
		st.conn.beginLocked(st, w.status, &w.fields, false)
	}
	small := w.takeSmall()
	defer st.conn.server.buffers.put(small)
	if len(small) == 0 {
		return nil
	}
	return st.sendLocked(small, false)
}

// takeSmall returns what was written and is to be framed. It is the caller's, to give back.
func (w *response) takeSmall() []byte {
	small := w.small
	w.small = nil
	if w.request.Method == http.MethodHead {
		return small[:0]
	}
	return small
}

// sniff finds out what is written, if nobody has said it, as net/http does.
func (w *response) sniff(begin []byte) {
	if len(begin) > 0 && !w.fields.typed && !w.fields.encoded && bodyAllowed(w.status) {
		w.fields.typed = true
		w.fields.add("content-type", http.DetectContentType(begin))
	}
}

// endLocked sends what is left, and ends the stream in this direction.
func (w *response) endLocked() error {
	st := w.stream
	if st.err != nil {
		return st.err
	}
	if w.status == 0 {
		w.status = http.StatusOK
		w.fields.take(w.Header())
	}
	trailers := trailersOf(w.header)
	if !w.begun {
		w.sniff(w.small)
	}
	small := w.takeSmall()
	defer st.conn.server.buffers.put(small)
	if !w.begun {
		w.begun = true
		if w.fields.length < 0 && bodyAllowed(w.status) && (w.written > 0 || w.request.Method != http.MethodHead) {
			w.fields.add("content-length", strconv.FormatInt(w.written, 10))
		}
		end := len(small) == 0 && len(trailers) == 0
		st.conn.beginLocked(st, w.status, &w.fields, end)
		if end {
			return nil
		}
	}
	var err error
	if len(small) > 0 || len(trailers) == 0 {
		err = st.sendLocked(small, len(trailers) == 0)
	}
	if err == nil && len(trailers) > 0 {
		st.conn.sendTrailersLocked(st, trailers)
	}
	return err
}
