// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// shelf is what a stream has to send.
type shelf struct {
	mu     sync.Mutex
	pieces [][]byte
	closed bool
	// taken counts calls of take.
	taken int
}

func (s *shelf) add(pieces ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pieces {
		s.pieces = append(s.pieces, []byte(p))
	}
}

func (s *shelf) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// take returns two pieces at most.
func (s *shelf) take() ([][]byte, Then) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	if len(s.pieces) == 0 && s.closed {
		return nil, Done
	}
	out := s.pieces[:min(2, len(s.pieces))]
	s.pieces = s.pieces[len(out):]
	if len(s.pieces) > 0 || s.closed {
		return out, Again
	}
	return out, Wait
}

// serve pushes until the shelf is closed and empty, or ctx done. It returns how often it had to write itself.
func (s *shelf) serve(ctx context.Context, w http.ResponseWriter) (left int) {
	pusher, _ := PusherOf(w)
	for ctx.Err() == nil {
		pieces := pusher.Push(ctx, s.take)
		if pieces == nil {
			break
		}
		left++
		for _, p := range pieces {
			_, _ = w.Write(p)
		}
	}
	return left
}

// TestPush sends on a stream whose handler waits: what comes later, what comes at once, and what the client has no room for.
func TestPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shelf
		pushers, left := make(chan Pusher, 1), make(chan int, 1)
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begin")
			if _, ok := PusherOf(struct{ http.ResponseWriter }{w}); ok {
				t.Error("a writer that hides the stream has a Pusher")
			}
			pusher, ok := PusherOf(wrapped{w})
			if !ok {
				t.Error("the stream has no Pusher")
			}
			pushers <- pusher
			left <- s.serve(r.Context(), w)
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		id := p.request(t, "GET", "/", true)
		hear := func(want string) {
			t.Helper()
			if got := p.await(t, http2.FrameData, id); string(got.bytes) != want {
				t.Errorf("got %q, want %q", got.bytes, want)
			}
		}
		hear("begin")
		pusher := <-pushers
		pusher.Notify()
		synctest.Wait()
		s.add("one", "and", "two")
		pusher.Notify()
		hear("oneand")
		hear("two")
		long := strings.Repeat("x", 100)
		s.add(long)
		pusher.Notify()
		hear(long[:86])
		s.add("last")
		pusher.Notify() // The handler waits for room, and will see it.
		synctest.Wait()
		p.must(t, p.framer.WriteWindowUpdate(id, 1000))
		hear(long[86:])
		hear("last")
		s.close()
		pusher.Notify()
		if got := p.body(t, id); len(got) > 0 {
			t.Errorf("at the end came %q", got)
		}
		if n := <-left; n != 1 {
			t.Errorf("the handler wrote %d times, want the once that the client had no room", n)
		}
		pusher.Notify() // The stream has ended: nothing happens.
	})
}

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestNoPusher(t *testing.T) {
	if _, ok := PusherOf(httptest.NewRecorder()); ok {
		t.Error("a recorder has a Pusher")
	}
}

// TestPushEnds when the client gives up the stream, and takes nothing after that.
func TestPushEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shelf
		pushers, done := make(chan Pusher, 1), make(chan struct{})
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, r *http.Request) {
			pusher, _ := PusherOf(w)
			pushers <- pusher
			s.serve(r.Context(), w)
			close(done)
		})
		id := p.request(t, "GET", "/", true)
		pusher := <-pushers
		s.add("one")
		pusher.Notify()
		p.await(t, http2.FrameData, id)
		p.must(t, p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		<-done
		before := s.taken
		pusher.Notify()
		synctest.Wait()
		if s.taken != before {
			t.Error("something was taken for a stream that has ended")
		}
	})
}

// TestPushPanics in the handler, whoever took, and the connection goes on.
func TestPushPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				_, _ = io.WriteString(w, "well")
				return
			}
			pusher, _ := PusherOf(w)
			pusher.Push(r.Context(), func() ([][]byte, Then) { panic("no") })
		})
		id := p.request(t, "GET", "/panic", true)
		if f := p.await(t, http2.FrameRSTStream, id); f.code != http2.ErrCodeInternal {
			t.Errorf("reset with %v, want INTERNAL_ERROR", f.code)
		}
		if got := p.body(t, p.request(t, "GET", "/", true)); string(got) != "well" {
			t.Errorf("the next stream got %q", got)
		}
	})
}

// TestPushesOfManyStreams go to a client with small windows that it gives back at random. Every stream gets what is its own, whole and in order.
func TestPushesOfManyStreams(t *testing.T) {
	const streams, rounds = 100, 30
	shelves := make([]shelf, streams)
	pushers := make(chan Pusher, streams)
	p, _, _ := pair(t, serverOf(streams), func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		pusher, _ := PusherOf(w)
		pushers <- pusher
		shelves[n].serve(r.Context(), w)
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20_000})
	want := map[uint32][]byte{}
	for n := range streams {
		id := p.request(t, "GET", "/?n="+strconv.Itoa(n), true)
		for range rounds {
			want[id] = append(want[id], bytes.Repeat([]byte{byte(n)}, 1+rand.N(5_000))...)
		}
	}
	var all []Pusher
	for range streams {
		all = append(all, <-pushers)
	}
	go func() {
		rest := map[int][]byte{}
		for n := range streams {
			rest[n] = want[uint32(2*n+1)]
		}
		for len(rest) > 0 {
			for n, text := range rest {
				piece := min(len(text), 1+rand.N(5_000))
				shelves[n].add(string(text[:piece]))
				if rest[n] = text[piece:]; len(rest[n]) == 0 {
					delete(rest, n)
					shelves[n].close()
				}
			}
			for _, pusher := range all {
				pusher.Notify()
			}
		}
	}()
	got, ended := map[uint32][]byte{}, 0
	for f := range p.frames {
		if f.kind == http2.FrameRSTStream || f.kind == http2.FrameGoAway {
			t.Fatalf("got %+v", f)
		}
		if f.kind != http2.FrameData {
			continue
		}
		got[f.stream] = append(got[f.stream], f.bytes...)
		if n := uint32(len(f.bytes)); n > 0 {
			p.must(t, p.framer.WriteWindowUpdate(0, n))
			p.must(t, p.framer.WriteWindowUpdate(f.stream, n))
		}
		if f.ended {
			if !bytes.Equal(got[f.stream], want[f.stream]) {
				t.Errorf("stream %d got %d bytes, which are not the %d of its own", f.stream, len(got[f.stream]), len(want[f.stream]))
			}
			if ended++; ended == streams {
				return
			}
		}
	}
	t.Errorf("the connection ended after %d of %d streams", ended, streams)
}
