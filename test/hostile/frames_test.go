// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire speaks HTTP/2 by the frame.
type wire struct {
	conn   *tls.Conn
	out    *bufio.Writer
	framer *http2.Framer
	text   bytes.Buffer
	packer *hpack.Encoder
	next   uint32
	// ended is closed when the server has ended the connection, answered when it has answered the last ping.
	ended, answered chan struct{}
}

// last is the ping after a flood.
var last = [8]byte{'l', 'a', 's', 't'}

// wire opens an HTTP/2 connection of the attacker's. What comes back is thrown away, and never gets more room than a connection begins with.
func (s *siege) wire(t *testing.T, settings ...http2.Setting) *wire {
	t.Helper()
	conn := s.dial(t, "h2")
	w := &wire{conn: conn, out: bufio.NewWriterSize(conn, 64<<10), next: 1, ended: make(chan struct{}), answered: make(chan struct{})}
	w.framer = http2.NewFramer(w.out, nil)
	w.packer = hpack.NewEncoder(&w.text)
	_, _ = w.out.WriteString(http2.ClientPreface) // An error comes again with the next flush.
	_ = w.framer.WriteSettings(settings...)
	go func() {
		defer close(w.ended)
		in := http2.NewFramer(nil, bufio.NewReader(conn))
		for {
			frame, err := in.ReadFrame()
			if err != nil {
				return
			}
			if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() && ping.Data == last {
				close(w.answered)
			}
		}
	}()
	return w
}

// headers packs those of a request.
func (w *wire) headers(method, path string, more ...string) []byte {
	w.text.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "x", ":path", path, "authorization", "Bearer " + attacker}, more...)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = w.packer.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}) // A buffer takes all.
	}
	return w.text.Bytes()
}

// open begins a stream and returns its number.
func (w *wire) open(method, path string, end bool) (uint32, error) {
	id := w.next
	w.next += 2
	return id, w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.headers(method, path), EndHeaders: true, EndStream: end})
}

// flood writes a number of times, or until the server ends the connection, which it then closes. It returns how often it wrote. If the server has
// not ended the connection, it has dealt with all.
func (w *wire) flood(t *testing.T, limit int, send func() error) int {
	t.Helper()
	defer w.conn.Close() //nolint:errcheck // Whoever ends it.
	for n := range limit {
		if send() != nil {
			return n
		}
	}
	_ = w.framer.WritePing(false, last)
	_ = w.out.Flush() // As above.
	select {
	case <-w.ended:
	case <-w.answered:
	case <-time.After(recovery):
		t.Error("the server neither ended the connection nor answered a ping")
	}
	return limit
}

// TestRapidReset begins streams and resets them at once, thousands on each of four connections (CVE-2023-44487), as reads, as lists and as
// creates. A stream that is reset no longer counts for the client, but its handler may still run: the server must not have more of them for that.
func TestRapidReset(t *testing.T) {
	s := lay(t)
	s.stock(t, 100, 4<<10)
	s.under(t, 256<<20, func(t *testing.T) {
		done := make(chan int)
		for _, r := range []struct {
			method, path string
			end          bool
		}{
			{http.MethodGet, mine, true},
			{http.MethodGet, maps, true},
			{http.MethodPost, maps, false},
			{http.MethodGet, maps + "?watch=1", true},
		} {
			w := s.wire(t)
			go func() {
				done <- w.flood(t, 3_000, func() error {
					id, err := w.open(r.method, r.path, r.end)
					if err != nil {
						return err
					}
					return w.framer.WriteRSTStream(id, http2.ErrCodeCancel)
				})
			}()
		}
		for range 4 {
			t.Logf("%d streams were begun and reset", <-done)
		}
	})
}

// TestControlFrames floods connections with frames that a server must answer, or look at, and that cost a client nothing: SETTINGS, PING, PRIORITY,
// window updates, empty DATA. Answers that the client does not take must not pile up.
func TestControlFrames(t *testing.T) {
	s := lay(t)
	s.under(t, 128<<20, func(t *testing.T) {
		const n = 40_000
		for name, send := range map[string]func(*wire) error{
			"settings": func(w *wire) error {
				return w.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			},
			"ping": func(w *wire) error { return w.framer.WritePing(false, [8]byte{1}) },
			"priority": func(w *wire) error {
				w.next += 2
				return w.framer.WritePriority(w.next, http2.PriorityParam{StreamDep: 0, Weight: 200})
			},
			"window":  func(w *wire) error { return w.framer.WriteWindowUpdate(0, 1) },
			"unknown": func(w *wire) error { return w.framer.WriteRawFrame(0xee, 0, 0, make([]byte, 100)) },
		} {
			w := s.wire(t)
			t.Logf("%s: %d frames", name, w.flood(t, n, func() error { return send(w) }))
		}
		w := s.wire(t)
		id, _ := w.open(http.MethodPost, maps+"?timeout=1s", false)
		t.Logf("empty data: %d frames", w.flood(t, n, func() error { return w.framer.WriteData(id, false, nil) }))
	})
}

// TestContinuationFlood sends header blocks that never end, in CONTINUATION frames (CVE-2023-45288). The server must end the connection, and keep
// nothing of what is above its bound meanwhile.
func TestContinuationFlood(t *testing.T) {
	s := lay(t)
	s.under(t, 128<<20, func(t *testing.T) {
		for range 2 {
			w := s.wire(t)
			block := w.headers(http.MethodGet, "/api")
			_ = w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true}) // The next write says so, too.
			more := bytes.Clone(w.headers(http.MethodGet, "/api", "x-more", strings.Repeat("a", 8<<10)))[len(block):]
			const limit = 20_000 // 100 MB and more
			if n := w.flood(t, limit, func() error { return w.framer.WriteContinuation(1, false, more) }); n == limit {
				t.Errorf("the server took %d continuation frames of %d bytes", n, len(more))
			}
		}
	})
}

// TestHugeHeaders sends header lines of 2 MiB, 100,000 header lines, and a path of as much, over HTTP/1.1 and HTTP/2. What is above a mebibyte is
// refused with 431; a path of 100 kB that leads nowhere is not found, and is in no metric.
func TestHugeHeaders(t *testing.T) {
	s := lay(t)
	s.under(t, 256<<20, func(t *testing.T) {
		lines := strings.Repeat("X-Line: a value\r\n", 100_000)
		for name, head := range map[string]string{
			"one line of 2 MiB": "GET /api HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 2<<20) + "\r\n\r\n",
			"100,000 lines":     "GET /api HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n",
			"a path of 2 MiB":   "GET /" + strings.Repeat("a", 2<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			conn := s.dial(t, "http/1.1")
			go func() { _, _ = io.WriteString(conn, head) }() // The server ends the connection before it has all.
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("HTTP/1.1 with %s: %v, want an answer", name, err)
				continue
			}
			if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("HTTP/1.1 with %s = %d, want 431", name, res.StatusCode)
			}
			_ = res.Body.Close()
			_ = conn.Close()
		}
		c := s.caller(attacker)
		defer c.close()
		for i := range 10 {
			path := fmt.Sprintf("/%d", i) + strings.Repeat("/a", 50_000)
			c.want(t, http.StatusNotFound, http.MethodGet, path, nil)
			c.want(t, http.StatusNotFound, http.MethodGet, "/api/v1/namespaces/default"+path, nil)
			c.want(t, http.StatusNotFound, http.MethodGet, maps+"/"+strings.Repeat("a", 100_000), nil)
			c.want(t, http.StatusNotFound, http.MethodGet, "/apis"+path, nil)
		}
		_, metrics, err := c.do(t.Context(), http.MethodGet, "/metrics", nil)
		if err != nil || strings.Contains(string(metrics), "/a/a/a") || strings.Contains(string(metrics), "aaaaaaaaaa") {
			t.Errorf("metrics name paths that lead nowhere, or fail: %v", err)
		}
	})
}

// TestIdleConnections opens 500 connections and says nothing. Each costs some tens of kilobytes.
func TestIdleConnections(t *testing.T) {
	s := lay(t)
	s.under(t, 96<<20, func(t *testing.T) {
		var conns []*tls.Conn
		for range 500 {
			conns = append(conns, s.dial(t, "h2"))
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
}
