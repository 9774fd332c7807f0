// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// self names the goroutine that calls it.
func self() string {
	text := make([]byte, 64)
	name, _, _ := strings.Cut(string(text[:runtime.Stack(text, false)]), " [")
	return name
}

func (ws *workers) idleNow() int {
	synctest.Wait()
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.idle)
}

// TestWorkersAreUsedAgain for requests that come one after the other, on whatever connection, and end when none came for some seconds.
func TestWorkersAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, _ := pair(t, serverOf(10), func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, self()) })
		ask := func() string {
			defer synctest.Wait()
			return string(p.body(t, p.request(t, "GET", "/", true)))
		}
		first := ask()
		for range 10 {
			if got := ask(); got != first {
				t.Fatalf("the next request ran on %s, want the idle %s", got, first)
			}
			time.Sleep(sweepEvery - time.Millisecond)
		}
		time.Sleep(2 * sweepEvery)
		if n := s.workers.idleNow(); n != 0 {
			t.Errorf("%d workers are idle after nobody needed one", n)
		}
		if ask() == first {
			t.Errorf("%s answers after its end", first)
		}
	})
}

// TestUnneededWorkersEnd after more were busy at a time than are later.
func TestUnneededWorkersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const crowd = 10
		gate := make(chan struct{})
		p, s, _ := pair(t, serverOf(crowd), func(w http.ResponseWriter, _ *http.Request) {
			<-gate
			_, _ = io.WriteString(w, "well")
		})
		for range crowd {
			p.request(t, "GET", "/", true)
		}
		synctest.Wait()
		close(gate)
		for ended := 0; ended < crowd; {
			if f := <-p.frames; f.kind == http2.FrameData {
				ended++
			}
		}
		if n := s.workers.idleNow(); n != crowd {
			t.Errorf("%d workers are idle, want the %d that were busy", n, crowd)
		}
		for range 6 { // Always the same one has something to do.
			p.body(t, p.request(t, "GET", "/", true))
			time.Sleep(sweepEvery / 2)
		}
		if n := s.workers.idleNow(); n != 1 {
			t.Errorf("%d workers are idle, want the one that is needed", n)
		}
	})
}

// TestWorkersOutliveTheirConnection, but not the last one: the bubble would find those that are left.
func TestWorkersOutliveTheirConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }
		p, s, done := pair(t, serverOf(10), handler)
		q, _ := join(t, s, handler)
		p.body(t, p.request(t, "GET", "/", true))
		p.must(t, p.conn.Close())
		<-done
		if n := s.workers.idleNow(); n != 1 {
			t.Errorf("%d workers are idle after one of two connections, want 1", n)
		}
		q.body(t, q.request(t, "GET", "/", true))
		if n := s.workers.idleNow(); n != 1 {
			t.Errorf("%d workers are idle after a request on the other connection, want the same 1", n)
		}
	})
}

// TestHandlersThatEndBadly neither lose a worker that can go on nor keep one that can't.
func TestHandlersThatEndBadly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, _ := pair(t, serverOf(10), func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/panic":
				panic("no")
			case "/abort":
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "well")
			if r.URL.Path == "/exit" {
				runtime.Goexit()
			}
		})
		for _, c := range []struct {
			path  string
			reset bool
			idle  int
		}{{"/", false, 1}, {"/panic", true, 1}, {"/abort", true, 1}, {"/exit", false, 0}, {"/", false, 1}} {
			id := p.request(t, "GET", c.path, true)
			if c.reset {
				p.await(t, http2.FrameRSTStream, id)
			} else if got := string(p.body(t, id)); got != "well" {
				t.Errorf("%s was answered with %q, want %q", c.path, got, "well")
			}
			if n := s.workers.idleNow(); n != c.idle {
				t.Errorf("%d workers are idle after %s, want %d", n, c.path, c.idle)
			}
		}
	})
}

// TestLabelsEndWithTheirRequest: a profile has those of one handler not for what the next one on its goroutine does.
func TestLabelsEndWithTheirRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, r *http.Request) {
			var profile strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&profile, 1)
			fmt.Fprint(w, strings.Contains(profile.String(), "left by a handler"))
			pprof.SetGoroutineLabels(pprof.WithLabels(r.Context(), pprof.Labels("test", "left by a handler")))
		})
		for range 2 {
			if got := string(p.body(t, p.request(t, "GET", "/", true))); got != "false" {
				t.Error("a request began with the labels of the one before")
			}
			synctest.Wait()
		}
	})
}
