// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tcpPair returns both ends of a connection, the first of them ours.
func tcpPair(t *testing.T) (*socket, net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = theirs.Close() // May be closed.
		_ = ours.Close()   // As above.
	})
	s := newSocket(ours)
	if s == nil {
		t.Fatal("a TCP connection is no socket")
	}
	return s, theirs
}

// TestSocketsEcho more than fits between both ends, to a peer that takes it late.
func TestSocketsEcho(t *testing.T) {
	ours, theirs := tcpPair(t)
	sent := bytes.Repeat([]byte("0123456789abcde"), 1<<20)
	echoed := make(chan error, 1)
	go func() {
		text, err := io.ReadAll(ours)
		if err == nil {
			_, err = ours.Write(text)
		}
		if err == nil {
			err = ours.Close()
		}
		echoed <- err
	}()
	if _, err := theirs.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := theirs.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-echoed; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes back, which are not the %d that were sent", len(got), len(sent))
	}
}

// TestSocketsFail as those of package net: with the same errors, as far as callers tell them apart.
func TestSocketsFail(t *testing.T) {
	ours, theirs := tcpPair(t)
	if n, err := ours.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) = %d, %v, want nothing", n, err)
	}
	if n, err := ours.Write(nil); n != 0 || err != nil {
		t.Errorf("Write(nil) = %d, %v, want nothing", n, err)
	}
	p := make([]byte, 1<<20)
	for name, set := range map[string]func(time.Time) error{"Read": ours.SetReadDeadline, "Write": ours.SetWriteDeadline} {
		if err := set(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		call := ours.Read
		if name == "Write" {
			call = func(p []byte) (n int, err error) {
				for err == nil { // Until nothing more fits between both ends.
					n, err = ours.Write(p)
				}
				return n, err
			}
		}
		_, err := call(p)
		if failed, ok := errors.AsType[*net.OpError](err); !errors.Is(err, os.ErrDeadlineExceeded) || !ok || !failed.Timeout() || failed.Op != strings.ToLower(name) {
			t.Errorf("%s after the deadline: %v, want %v", name, err, os.ErrDeadlineExceeded)
		}
		if err := set(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := theirs.(*net.TCPConn).SetLinger(0); err != nil { // Closing resets.
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(p); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read after a reset: %v, want %v", err, syscall.ECONNRESET)
	}
	if _, err := ours.Write(p); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write after a reset: %v, want %v", err, syscall.EPIPE)
	}
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v, want %v", err, net.ErrClosed)
	}
	if _, err := ours.Write(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v, want %v", err, net.ErrClosed)
	}
}

// TestReadsPutOff are not woken by a little until it is time, then have all of it; but by much, by the end, and by their deadline.
func TestReadsPutOff(t *testing.T) {
	type read struct {
		text string
		err  error
	}
	const before = 50 * time.Millisecond // for a read that should not wake to do so: nothing tells that it did not
	// putOff returns a connection whose reads are put off, and begins one, which waits when begin returns.
	putOff := func(t *testing.T) (ours *socket, theirs net.Conn, begin func() <-chan read) {
		ours, theirs = tcpPair(t)
		waits := make(chan struct{}, 1)
		receive := ours.receive
		ours.receive = func(fd uintptr) bool {
			done := receive(fd)
			if !done {
				wake(waits)
			}
			return done
		}
		ours.putOff(time.Hour)
		return ours, theirs, func() <-chan read {
			done := make(chan read, 1)
			go func() {
				p := make([]byte, 2*much)
				n, err := ours.Read(p)
				done <- read{string(p[:n]), err}
			}()
			<-waits
			return done
		}
	}
	say := func(t *testing.T, to io.Writer, text string) {
		t.Helper()
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a little", func(t *testing.T) {
		ours, theirs, begin := putOff(t)
		done := begin()
		for _, text := range []string{"a", "li", "ttle"} {
			say(t, theirs, text)
			select {
			case got := <-done:
				t.Fatalf("Read() = %q, %v while reads were put off", got.text, got.err)
			case <-time.After(before):
			}
		}
		ours.resume()
		if got := <-done; got.text != "alittle" || got.err != nil {
			t.Errorf("Read() = %q, %v, want all that came meanwhile", got.text, got.err)
		}
		done = begin()
		say(t, theirs, "more")
		if got := <-done; got.text != "more" || got.err != nil {
			t.Errorf("Read() = %q, %v, want what came later", got.text, got.err)
		}
	})
	t.Run("for a time", func(t *testing.T) {
		ours, theirs, begin := putOff(t)
		done := begin()
		ours.resume()
		ours.putOff(before)
		say(t, theirs, "text")
		if got := <-done; got.text != "text" || got.err != nil {
			t.Errorf("Read() = %q, %v, want what came", got.text, got.err)
		}
	})
	t.Run("much", func(t *testing.T) {
		_, theirs, begin := putOff(t)
		done := begin()
		say(t, theirs, string(make([]byte, much)))
		if got := <-done; len(got.text) == 0 || got.err != nil {
			t.Errorf("Read() = %d bytes, %v, want much", len(got.text), got.err)
		}
	})
	t.Run("the end", func(t *testing.T) {
		_, theirs, begin := putOff(t)
		done := begin()
		if err := theirs.Close(); err != nil {
			t.Fatal(err)
		}
		if got := <-done; !errors.Is(got.err, io.EOF) {
			t.Errorf("Read() = %q, %v, want %v", got.text, got.err, io.EOF)
		}
	})
	t.Run("the deadline", func(t *testing.T) {
		ours, _, begin := putOff(t)
		done := begin()
		if err := ours.SetReadDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := <-done; !errors.Is(got.err, os.ErrDeadlineExceeded) {
			t.Errorf("Read() = %q, %v, want %v", got.text, got.err, os.ErrDeadlineExceeded)
		}
	})
}

func (s *socket) everPutOff() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calm != nil
}

// TestCrowdsPutReadsOff of their connection; fewer streams do not, nor where one waits for what is read.
func TestCrowdsPutReadsOff(t *testing.T) {
	for _, waiting := range [][]*stream{nil, {{}}} {
		ours, _ := tcpPair(t)
		c := &conn{cork: &cork{Conn: ours, socket: ours}, waiting: waiting}
		for told := range crowd {
			if ours.everPutOff() {
				t.Errorf("reads are put off after %d streams were told something", told)
			}
			c.tellLocked()
		}
		if got, want := ours.everPutOff(), len(waiting) == 0; got != want {
			t.Errorf("reads were put off = %v after a crowd was told something, with %d streams that wait; want %v", got, len(waiting), want)
		}
	}
}

// TestCrowdsAreServed over TLS: each stream of a crowd hears everything in order, while requests of the same connection are answered.
func TestCrowdsAreServed(t *testing.T) {
	const streams, rounds = 3 * crowd, 50
	piece := strings.Repeat("x", 5000) // so long that each has the client send an update
	shelves := make([]shelf, streams)
	pushers := make(chan Pusher, streams)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // What fails shows in what is read.
		pusher, _ := PusherOf(w)
		pushers <- pusher
		shelves[n].serve(r.Context(), w)
	}))
	server.EnableHTTP2 = true
	Attach(server.Config, slog.New(slog.DiscardHandler))
	server.Listener = Listen(server.Listener)
	server.StartTLS()
	defer server.Close()
	get := func(path string) io.ReadCloser {
		t.Helper()
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	heard := make(chan string, streams)
	var all []Pusher
	for n := range streams {
		body := get("/" + strconv.Itoa(n))
		all = append(all, <-pushers)
		go func() {
			defer body.Close()
			text, _ := io.ReadAll(body) // An error shows in what was read.
			heard <- string(text)
		}()
	}
	for range rounds {
		for n := range streams {
			shelves[n].add(piece)
			all[n].Notify()
		}
		if err := get("/more").Close(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range streams {
		shelves[n].close()
		all[n].Notify()
	}
	for range streams {
		if got := <-heard; got != strings.Repeat(piece, rounds) {
			t.Errorf("a stream heard %d bytes, which are not the %d that it was told", len(got), rounds*len(piece))
		}
	}
}
