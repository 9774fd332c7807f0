// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer is a client that speaks by the frame, over a pipe.
type peer struct {
	conn   net.Conn
	framer *http2.Framer
	text   bytes.Buffer
	packer *hpack.Encoder
	frames chan frame // all of a test fit; closed when the server has ended the connection; nil where a test reads itself
	next   uint32
}

// newPeer is a client that has said nothing yet, and reads nothing by itself.
func newPeer(conn net.Conn) *peer {
	p := &peer{conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	p.packer = hpack.NewEncoder(&p.text)
	return p
}

// pair serves one end of a pipe and returns the other one; the connection is over when done is closed.
func pair(t testing.TB, from *http.Server, handler http.HandlerFunc, settings ...http2.Setting) (p *peer, s *server, done chan struct{}) {
	t.Helper()
	s = newServer(from, slog.New(slog.DiscardHandler))
	p, done = join(t, s, handler, settings...)
	return p, s, done
}

// join is pair for one more connection of a server.
func join(t testing.TB, s *server, handler http.HandlerFunc, settings ...http2.Setting) (p *peer, done chan struct{}) {
	t.Helper()
	done = make(chan struct{})
	ours, theirs := net.Pipe()
	go func() {
		defer close(done)
		s.serve(context.Background(), ours, nil, handler)
	}()
	t.Cleanup(func() { _ = theirs.Close(); <-done })
	p = newPeer(theirs)
	p.frames = make(chan frame, 10_000)
	p.framer.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	go func() {
		defer close(p.frames)
		for {
			f, err := p.framer.ReadFrame()
			if err != nil {
				return
			}
			p.frames <- frameOf(f)
		}
	}()
	if _, err := io.WriteString(theirs, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	p.must(t, p.framer.WriteSettings(settings...))
	return p, done
}

// frame is what a test asks of one: those of the framer are gone with the next.
type frame struct {
	kind   http2.FrameType
	stream uint32
	code   http2.ErrCode
	n      uint32 // of a window update, or the last stream of GOAWAY
	status string
	bytes  []byte
	ended  bool
}

func frameOf(f http2.Frame) frame {
	out := frame{kind: f.Header().Type, stream: f.Header().StreamID}
	switch f := f.(type) {
	case *http2.DataFrame:
		out.bytes, out.ended = bytes.Clone(f.Data()), f.StreamEnded()
	case *http2.MetaHeadersFrame:
		out.status, out.ended = f.PseudoValue("status"), f.StreamEnded()
	case *http2.RSTStreamFrame:
		out.code = f.ErrCode
	case *http2.GoAwayFrame:
		out.code, out.n = f.ErrCode, f.LastStreamID
	case *http2.WindowUpdateFrame:
		out.n = f.Increment
	}
	return out
}

func (p *peer) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// request begins a stream.
func (p *peer) request(t testing.TB, method, path string, end bool, more ...string) uint32 {
	t.Helper()
	p.text.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "x", ":path", path}, more...)
	for i := 0; i+1 < len(fields); i += 2 {
		p.must(t, p.packer.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	id := p.next
	p.next += 2
	p.must(t, p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.text.Bytes(), EndHeaders: true, EndStream: end}))
	return id
}

// await returns the next frame of a kind, of those that concern a stream or, with 0, the connection.
func (p *peer) await(t testing.TB, kind http2.FrameType, id uint32) frame {
	t.Helper()
	for f := range p.frames {
		if f.kind == kind && f.stream == id {
			return f
		}
		if f.kind == http2.FrameGoAway || f.kind == http2.FrameRSTStream && f.stream == id {
			t.Fatalf("got %+v, want %v", f, kind)
		}
	}
	t.Fatalf("the connection ended before %v", kind)
	panic("unreachable")
}

func serverOf(streams int) *http.Server {
	return &http.Server{HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams}}
}

// body reads the answer's until its end, and gives the client's windows back.
func (p *peer) body(t testing.TB, id uint32) []byte {
	t.Helper()
	var out []byte
	for {
		d := p.await(t, http2.FrameData, id)
		out = append(out, d.bytes...)
		if d.ended {
			return out
		}
		if n := uint32(len(d.bytes)); n > 0 {
			p.must(t, p.framer.WriteWindowUpdate(0, n))
			p.must(t, p.framer.WriteWindowUpdate(id, n))
		}
	}
}

// TestAnswersWaitForTheClient sends an answer larger than the client's windows: no more goes out than the client allows, and all of it in the end.
func TestAnswersWaitForTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := []byte(strings.Repeat("0123456789", 20_000))
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
		id := p.request(t, "GET", "/", true)
		d := p.await(t, http2.FrameData, id)
		if len(d.bytes) != 1000 {
			t.Errorf("the first frame has %d bytes, want the 1000 that the stream may have", len(d.bytes))
		}
		p.must(t, p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1500}))
		if d := p.await(t, http2.FrameData, id); len(d.bytes) != 500 {
			t.Errorf("with 500 more by a setting came %d bytes", len(d.bytes))
		}
		p.must(t, p.framer.WriteWindowUpdate(id, 1<<20))
		got := 1500
		for got < beginWindow {
			got += len(p.await(t, http2.FrameData, id).bytes)
		}
		if got != beginWindow {
			t.Errorf("%d bytes came, want the %d that the connection may have", got, beginWindow)
		}
		p.must(t, p.framer.WriteWindowUpdate(0, 1<<20))
		if got += len(p.body(t, id)); got != len(text) {
			t.Errorf("%d bytes came in all, want %d", got, len(text))
		}
	})
}

// TestDeafClientsLoseTheStream gives an answer no room: when the handler's deadline is over the stream ends, and the handler learns of it.
func TestDeafClientsLoseTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			_, err := w.Write(make([]byte, 1<<20))
			failed <- err
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		id := p.request(t, "GET", "/", true)
		begin := time.Now()
		if f := p.await(t, http2.FrameRSTStream, id); f.code != http2.ErrCodeInternal || time.Since(begin) != time.Second {
			t.Errorf("reset with %v after %v, want INTERNAL_ERROR after 1s", f.code, time.Since(begin))
		}
		if <-failed == nil {
			t.Error("Write succeeded")
		}
	})
}

// TestAnswersDoNotWaitForHalfAFrame sends a question and, in one piece with it, half of what comes next.
func TestAnswersDoNotWaitForHalfAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := pair(t, serverOf(0), func(http.ResponseWriter, *http.Request) {})
		var text bytes.Buffer
		framer := http2.NewFramer(&text, nil)
		p.must(t, framer.WritePing(false, [8]byte{}))
		p.must(t, framer.WritePing(false, [8]byte{}))
		half := text.Len() * 3 / 4
		for _, piece := range [][]byte{text.Bytes()[:half], text.Bytes()[half:]} {
			_, err := p.conn.Write(piece)
			p.must(t, err)
			synctest.Wait()
			answers := 0
			for len(p.frames) > 0 {
				if f := <-p.frames; f.kind == http2.FramePing {
					answers++
				}
			}
			if answers != 1 {
				t.Errorf("%d pings were answered, want one after each piece", answers)
			}
		}
	})
}

// TestFramesAreReadThoughTheClientReadsNone has a client that reads nothing, neither what it asked for nor answers to its frames, and sends on.
func TestFramesAreReadThoughTheClientReadsNone(t *testing.T) {
	for name, first := range map[string]func(p *peer){
		"much of an answer waits":    func(p *peer) { p.request(t, "GET", "/large", true) },
		"an answer to a frame waits": func(p *peer) { p.must(t, p.framer.WritePing(false, [8]byte{})) },
		"both wait": func(p *peer) {
			p.request(t, "GET", "/large", true)
			p.must(t, p.framer.WritePing(false, [8]byte{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reached := false
				ours, theirs := net.Pipe()
				s := newServer(serverOf(10), slog.New(slog.DiscardHandler))
				done := make(chan struct{})
				go func() {
					defer close(done)
					s.serve(t.Context(), ours, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/large" {
							_, _ = w.Write(make([]byte, 4*outFull))
							return
						}
						reached = true
					}))
				}()
				p := newPeer(theirs)
				unread := make(chan struct{}) // closed when nothing is read any more
				go func() {
					_, _ = io.WriteString(theirs, http2.ClientPreface)
					_ = p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 8 * outFull})
					<-unread
					_ = p.framer.WriteWindowUpdate(0, 8*outFull)
					first(p)
					p.request(t, "GET", "/", true)
				}()
				for acknowledged := false; !acknowledged; {
					f, err := p.framer.ReadFrame()
					p.must(t, err)
					settings, ok := f.(*http2.SettingsFrame)
					acknowledged = ok && settings.IsAck()
				}
				close(unread)
				synctest.Wait()
				if !reached {
					t.Error("a request waits for the client to read what came before it")
				}
				_ = theirs.Close()
				<-done
			})
		})
	}
}

// TestStuckConnectionsEnd has a client that reads nothing at all, not even from its socket.
func TestStuckConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := newServer(serverOf(10), slog.New(slog.DiscardHandler))
		begin := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.serve(t.Context(), ours, nil, http.NotFoundHandler())
		}()
		<-done
		if took := time.Since(begin); took < stuck/2 || took > stuck+farewell {
			t.Errorf("the connection ended after %v, want %v", took, stuck)
		}
		_ = theirs.Close()
	})
}

// TestSlowBodiesTimeOut has a body that does not come.
func TestSlowBodiesTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
			if _, err := io.ReadAll(r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reading the body: %v, want its deadline", err)
			}
			w.WriteHeader(http.StatusGatewayTimeout)
		})
		id := p.request(t, "POST", "/", false)
		if status := p.await(t, http2.FrameHeaders, id).status; status != "504" {
			t.Errorf("status %s, want 504", status)
		}
		if f := p.await(t, http2.FrameRSTStream, id); f.code != http2.ErrCodeNo {
			t.Errorf("reset with %v, want NO_ERROR: the client need not send the rest", f.code)
		}
	})
}

// TestAnswersComeBeforeTheBodyEnds answers while the client still sends. It may send on for a moment: what it was answered is not taken back by a reset
// that comes with it.
func TestAnswersComeBeforeTheBodyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, _ := pair(t, serverOf(10), func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
		answered := func() uint32 {
			id := p.request(t, "POST", "/", false)
			if got := p.body(t, id); string(got) != "no\n" {
				t.Errorf("the answer is %q", got)
			}
			return id
		}
		p.must(t, p.framer.WriteData(answered(), true, []byte("the rest")))
		begin, stubborn := time.Now(), answered()
		p.must(t, p.framer.WriteData(stubborn, false, []byte("some")))
		if f := p.await(t, http2.FrameRSTStream, stubborn); f.code != http2.ErrCodeNo || time.Since(begin) != linger {
			t.Errorf("reset with %v after %v, want NO_ERROR after %v", f.code, time.Since(begin), linger)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.mu.Lock()
			if len(c.streams) > 0 || c.running > 0 {
				t.Errorf("%d streams and %d handlers are left", len(c.streams), c.running)
			}
			c.mu.Unlock()
		}
	})
}

// TestBodiesAreBounded sends more of a body than anybody reads: the stream's window is all that is kept; what is read makes room.
func TestBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan int)
		p, _, _ := pair(t, serverOf(10), func(_ http.ResponseWriter, r *http.Request) {
			for n := range read {
				if _, err := io.ReadFull(r.Body, make([]byte, n)); err != nil {
					t.Error(err)
				}
			}
		})
		id := p.request(t, "POST", "/", false)
		chunk := make([]byte, beginFrame)
		for range streamWindow / beginFrame {
			p.must(t, p.framer.WriteData(id, false, chunk))
		}
		go func() { read <- streamWindow / 2 }()
		if f := p.await(t, http2.FrameWindowUpdate, id); f.n != streamWindow/2 {
			t.Errorf("window grew by %d, want what was read, %d", f.n, streamWindow/2)
		}
		for range streamWindow / 2 / beginFrame {
			p.must(t, p.framer.WriteData(id, false, chunk))
		}
		p.must(t, p.framer.WriteData(id, false, chunk[:1]))
		if f := p.await(t, http2.FrameRSTStream, id); f.code != http2.ErrCodeFlowControl {
			t.Errorf("one byte too many: %v, want FLOW_CONTROL_ERROR", f.code)
		}
		close(read)
	})
}

// TestUnreadBodiesGiveTheirRoomBack sends bodies that nobody reads, more of them than the connection's window.
func TestUnreadBodiesGiveTheirRoomBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		room, chunk := connWindow, make([]byte, beginFrame)
		for sent := 0; sent < 5*connWindow; {
			id := p.request(t, "POST", "/", false)
			for range streamWindow / beginFrame {
				if room < beginFrame {
					room += int(p.await(t, http2.FrameWindowUpdate, 0).n)
				}
				p.must(t, p.framer.WriteData(id, false, chunk))
				sent += len(chunk)
				room -= len(chunk)
			}
			p.must(t, p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			for more := true; more; {
				select {
				case f := <-p.frames:
					if f.kind == http2.FrameWindowUpdate && f.stream == 0 {
						room += int(f.n)
					}
				default:
					more = false
				}
			}
		}
	})
}

// TestResetStreamsCount begins streams and resets them while their handlers go on: no more handlers run than there may be streams.
func TestResetStreamsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 5
		var running, peak atomic.Int32
		p, _, _ := pair(t, serverOf(most), func(_ http.ResponseWriter, r *http.Request) {
			peak.Store(max(peak.Load(), running.Add(1)))
			defer running.Add(-1)
			<-r.Context().Done()
			time.Sleep(time.Second) // What can't be stopped at once.
		})
		for range 50 {
			id := p.request(t, "GET", "/", true)
			p.must(t, p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		}
		synctest.Wait()
		if n := peak.Load(); n > most {
			t.Errorf("%d handlers ran at a time, want %d", n, most)
		}
	})
}

// TestTooManyStreamsAreRefused opens one more than there may be.
func TestTooManyStreamsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := pair(t, serverOf(2), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		for range 2 {
			p.request(t, "GET", "/", true)
		}
		id := p.request(t, "GET", "/", true)
		if f := p.await(t, http2.FrameRSTStream, id); f.code != http2.ErrCodeRefusedStream {
			t.Errorf("reset with %v, want REFUSED_STREAM, after which a client tries again", f.code)
		}
	})
}

// TestIdleConnectionsEnd, but not those with a stream.
func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := serverOf(10)
		from.IdleTimeout = time.Minute
		p, _, done := pair(t, from, func(_ http.ResponseWriter, r *http.Request) { time.Sleep(5 * time.Minute) })
		p.request(t, "GET", "/", true)
		begin := time.Now()
		if f := p.await(t, http2.FrameGoAway, 0); f.code != http2.ErrCodeNo || f.n != 1 {
			t.Errorf("GOAWAY with %v of stream %d", f.code, f.n)
		}
		if took := time.Since(begin); took != 6*time.Minute {
			t.Errorf("the connection ended after %v, want a minute after its stream", took)
		}
		<-done
	})
}

// TestLeavingConnectionsFinishTheirStreams tells the client to go while a request is answered.
func TestLeavingConnectionsFinishTheirStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, done := pair(t, serverOf(10), func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "done")
		})
		id := p.request(t, "GET", "/", true)
		synctest.Wait()
		s.shutdown()
		if f := p.await(t, http2.FrameGoAway, 0); f.n != id {
			t.Errorf("GOAWAY says that stream %d is the last served, want %d", f.n, id)
		}
		p.request(t, "GET", "/", true) // It is not served.
		if got := p.body(t, id); string(got) != "done" {
			t.Errorf("the answer is %q", got)
		}
		<-done
	})
}

// TestPanicsEndTheirStream and no other.
func TestPanicsEndTheirStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, _ := pair(t, serverOf(10), func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				panic("no")
			}
			_, _ = io.WriteString(w, "well")
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

// TestCancelledRequestsEnd tells the handler of a stream that the client has reset, by its context and by its body.
func TestCancelledRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan error, 1)
		p, _, _ := pair(t, serverOf(10), func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			<-r.Context().Done()
			read <- err
		})
		id := p.request(t, "POST", "/", false)
		p.must(t, p.framer.WriteData(id, false, []byte("half")))
		p.must(t, p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		if err := <-read; err == nil {
			t.Error("a body that was cut short was read without an error")
		}
	})
}

// TestLongHeadersAreRefused with a status that says why.
func TestLongHeadersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := serverOf(10)
		from.MaxHeaderBytes = 8 << 10
		p, _, _ := pair(t, from, func(http.ResponseWriter, *http.Request) { t.Error("it was handled") })
		id := p.request(t, "GET", "/", true, "x-long", strings.Repeat("a", 5<<10), "x-longer", strings.Repeat("a", 5<<10))
		if status := p.await(t, http2.FrameHeaders, id).status; status != "431" {
			t.Errorf("status %s, want 431", status)
		}
	})
}

// TestManyStreamsShareAConnection answers many requests at once, of random sizes, to a client with small windows that it gives back at random.
// Every stream gets what is its own, whole and in order.
func TestManyStreamsShareAConnection(t *testing.T) {
	const streams = 200
	p, _, _ := pair(t, serverOf(streams), func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		for rest := n; rest > 0; {
			piece := min(1+rand.N(20_000), rest)
			_, _ = w.Write(bytes.Repeat([]byte{byte(n)}, piece))
			if rest -= piece; rand.N(3) == 0 {
				_ = http.NewResponseController(w).Flush()
			}
		}
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5000})
	var mu sync.Mutex // of the framer's writing side
	want := map[uint32]int{}
	go func() {
		for range streams {
			n := 1 + rand.N(60_000)
			mu.Lock()
			id := p.request(t, "GET", "/?n="+strconv.Itoa(n), true)
			want[id] = n
			mu.Unlock()
		}
	}()
	got, ended := map[uint32]int{}, 0
	for f := range p.frames {
		if f.kind == http2.FrameRSTStream {
			t.Fatalf("got %+v", f)
		}
		if f.kind != http2.FrameData {
			continue
		}
		id := f.stream
		mu.Lock()
		n := want[id]
		if bytes.Count(f.bytes, []byte{byte(n)}) != len(f.bytes) {
			t.Fatalf("stream %d got bytes of another", id)
		}
		got[id] += len(f.bytes)
		if !f.ended && len(f.bytes) > 0 {
			p.must(t, p.framer.WriteWindowUpdate(id, uint32(len(f.bytes))))
		}
		if len(f.bytes) > 0 {
			p.must(t, p.framer.WriteWindowUpdate(0, uint32(len(f.bytes))))
		}
		mu.Unlock()
		if f.ended {
			if got[id] != n {
				t.Errorf("stream %d ended with %d bytes, want %d", id, got[id], n)
			}
			if ended++; ended == streams {
				return
			}
		}
	}
	t.Errorf("the connection ended after %d of %d streams", ended, streams)
}

// counted counts the writes to a connection.
type counted struct {
	net.Conn
	writes *atomic.Int32
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// turns are taken by many streams at once. The zero value is ready.
type turns struct {
	mu      sync.Mutex
	turn    int
	waiting []func()
}

// since returns the turn, and calls wake with the next one if it is none but seen.
func (x *turns) since(seen int, wake func()) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.turn == seen {
		x.waiting = append(x.waiting, wake)
	}
	return x.turn
}

// next wakes all who wait.
func (x *turns) next() {
	x.mu.Lock()
	x.turn++
	waiting := x.waiting
	x.waiting = nil
	x.mu.Unlock()
	for _, wake := range waiting {
		wake()
	}
}

// TestWritesOfManyStreamsAreFew wakes fifty streams of a connection at once, each of which has something to send: by its handler, or by a push.
func TestWritesOfManyStreamsAreFew(t *testing.T) {
	const streams, times = 50, 20
	for name, handler := range map[string]func(x *turns, w http.ResponseWriter, r *http.Request){
		"written": func(x *turns, w http.ResponseWriter, _ *http.Request) {
			for seen := 0; seen < times; {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				woken := make(chan struct{})
				if now := x.since(seen, func() { close(woken) }); now == seen {
					<-woken
				}
				seen++
			}
		},
		"pushed": func(x *turns, w http.ResponseWriter, r *http.Request) {
			pusher, _ := PusherOf(w)
			seen := -1
			pusher.Push(r.Context(), func() ([][]byte, Then) {
				switch now := x.since(seen, pusher.Notify); now {
				case times:
					return nil, Done
				case seen:
					return nil, Wait
				default:
					seen = now
					return [][]byte{[]byte("x")}, Again
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var x turns
			var writes atomic.Int32
			ours, theirs := net.Pipe()
			s := newServer(serverOf(streams), slog.New(slog.DiscardHandler))
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.serve(context.Background(), counted{ours, &writes}, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(&x, w, r) }))
			}()
			defer func() { _ = theirs.Close(); <-done }()
			p := newPeer(theirs)
			go func() {
				_, _ = io.WriteString(theirs, http2.ClientPreface)
				_ = p.framer.WriteSettings()
				for range streams {
					p.request(t, "GET", "/", true)
				}
			}()
			heard := 0
			for ended := 0; ended < streams; {
				f, err := p.framer.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				d, ok := f.(*http2.DataFrame)
				if !ok {
					continue
				}
				if d.StreamEnded() {
					ended++
				}
				if len(d.Data()) == 0 {
					continue
				}
				if heard++; heard%streams == 0 {
					x.next()
				}
			}
			t.Logf("%d pieces of %d streams took %d writes", streams*times, streams, writes.Load())
			if n := writes.Load(); n > streams*times/2 || heard != streams*times {
				t.Errorf("%d pieces of %d took %d writes", heard, streams*times, n)
			}
		})
	}
}

// FuzzFrames sends what no client should. The server must end the connection or go on, and let go of it when the client does.
func FuzzFrames(f *testing.F) {
	var seed bytes.Buffer
	framer := http2.NewFramer(&seed, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83, 0x87, 0x84, 0x41, 0x01, 'x'}, EndHeaders: true})
	_ = framer.WriteDataPadded(1, false, []byte("body"), make([]byte, 3))
	_ = framer.WriteWindowUpdate(1, 100)
	_ = framer.WriteWindowUpdate(0, 100)
	_ = framer.WritePing(false, [8]byte{1})
	_ = framer.WriteData(1, true, []byte("end"))
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	f.Add(seed.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frames []byte) {
		s := newServer(&http.Server{HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 3}, MaxHeaderBytes: 4 << 10}, slog.New(slog.DiscardHandler))
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.serve(context.Background(), ours, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(w, r.Body)
				if err == nil && r.ContentLength >= 0 && n != r.ContentLength {
					t.Errorf("a body of %d bytes, declared %d", n, r.ContentLength)
				}
			}))
		}()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_, _ = io.WriteString(theirs, http2.ClientPreface)
		_, _ = theirs.Write([]byte{0, 0, 0, byte(http2.FrameSettings), 0, 0, 0, 0, 0})
		_, _ = theirs.Write(frames)
		_ = theirs.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the server keeps a connection that the client has left")
		}
		if len(s.conns) > 0 {
			t.Error("the server still knows the connection")
		}
	})
}
