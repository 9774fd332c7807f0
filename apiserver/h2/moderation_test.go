// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestModeration decides about reads by what the ones before them brought.
func TestModeration(t *testing.T) {
	type read struct {
		after           time.Duration
		updates, others int
		want            bool
	}
	// row is a read after a pause, so many that follow soon, the last of which may be put off, and then more.
	row := func(n int, last bool, then ...read) []read {
		reads := []read{{time.Minute, 1, 0, false}}
		for i := range n {
			reads = append(reads, read{quick, 1, 0, i == n-1 && last})
		}
		return append(reads, then...)
	}
	for name, reads := range map[string][]read{
		"not before so many in a row":        row(quickReads-1, false, row(quickReads-1, false)...),
		"after so many in a row":             row(quickReads, true, read{lull, fewest, 0, true}, read{time.Minute, fewest, 0, true}),
		"until few come":                     row(quickReads, true, read{lull, fewest - 1, 0, false}, read{quick, fewest, 0, false}),
		"until something else comes":         row(quickReads, true, read{lull, 50, 1, false}),
		"not while something else comes":     row(quickReads-1, false, read{quick, 1, 1, false}, read{quick, 1, 0, false}),
		"again only after so many in a row":  row(quickReads, true, append([]read{{lull, 0, 1, false}}, row(quickReads, true)...)...),
		"not after a read that found nobody": row(quickReads, true, read{lull, 0, 0, false}),
	} {
		t.Run(name, func(t *testing.T) {
			var m moderation
			now := time.Now()
			for i, r := range reads {
				now = now.Add(r.after)
				for range r.updates {
					m.saw(&http2.WindowUpdateFrame{})
				}
				for range r.others {
					m.saw(&http2.PingFrame{})
				}
				if got := m.next(now); got != r.want {
					t.Fatalf("next() of read %d = %v, want %v", i, got, r.want)
				}
			}
		})
	}
}

// TestReadsOfUpdatesAreFew reads what comes a byte at a time, each of which it takes for a window update, in fewer reads; then what comes alone,
// with nothing after it, and the end.
func TestReadsOfUpdatesAreFew(t *testing.T) {
	const updates = 1000
	ours, theirs := tcpPair(t)
	sent := make(chan error, 1)
	step := make(chan struct{})
	go func() {
		sent <- func() error {
			for range updates {
				if _, err := theirs.Write([]byte("u")); err != nil {
					return err
				}
				for begin := time.Now(); time.Since(begin) < quick/10; {
					runtime.Gosched() // A sleep takes much longer than it is told.
				}
			}
			<-step
			if _, err := theirs.Write([]byte("r")); err != nil {
				return err
			}
			<-step
			return theirs.Close()
		}()
	}()
	reads := 0
	read := func() []byte {
		t.Helper()
		p := make([]byte, 64<<10)
		n, err := ours.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		reads++
		for range n {
			ours.moderation.saw(&http2.WindowUpdateFrame{})
		}
		return p[:n]
	}
	if err := ours.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for seen := 0; seen < updates; {
		seen += len(read())
	}
	if reads > updates/4 {
		t.Errorf("%d updates took %d reads, want a fourth of them at most", updates, reads)
	}
	step <- struct{}{}
	if got := string(read()); got != "r" {
		t.Errorf("Read() = %q after the updates, want what came alone", got)
	}
	step <- struct{}{}
	if n, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("Read() = %d, %v at the end, want %v", n, err, io.EOF)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestDeadlineOfAReadPutOff ends a read whose time is over, and one that waits.
func TestDeadlineOfAReadPutOff(t *testing.T) {
	ours, _ := tcpPair(t)
	for range 2 {
		ours.moderation.on, ours.moderation.updates = true, fewest
		if err := ours.SetReadDeadline(time.Now().Add(lull / 2)); err != nil {
			t.Fatal(err)
		}
		if n, err := ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read() = %d, %v, want %v", n, err, os.ErrDeadlineExceeded)
		}
	}
}

// tcpPair returns both ends of a connection, the first of them corked.
func tcpPair(t *testing.T) (*cork, net.Conn) {
	t.Helper()
	plain, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(plain)
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
	return ours.(*cork), theirs
}
