// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
)

// drip writes a byte now and then until the other side ends the connection or the context ends.
func drip(ctx context.Context, conn net.Conn) {
	for ctx.Err() == nil {
		if _, err := conn.Write([]byte(" ")); err != nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestSlowBodies sends 200 creates whose bodies come a byte at a time, over HTTP/1.1 and in streams of HTTP/2: each holds a seat of the server's
// fairness. The time of a request counts from its first byte: the server must answer each when that is over, with 504, not wait for the body.
func TestSlowBodies(t *testing.T) {
	s := lay(t)
	s.under(t, 256<<20, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var timedOut, refused atomic.Int32
		note := func(code int) {
			switch code {
			case http.StatusGatewayTimeout:
				timedOut.Add(1)
			case http.StatusTooManyRequests: // No seat was left for it.
				refused.Add(1)
			default:
				t.Errorf("slow body got status %d, want 504 or 429", code)
			}
		}
		const each = 100
		for range each {
			conn := s.dial(t, "http/1.1")
			wg.Go(func() {
				defer conn.Close() //nolint:errcheck // The server ends it, too.
				fmt.Fprintf(conn, "POST /api/v1/namespaces/default/configmaps?timeout=1s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n{", attacker)
				go drip(ctx, conn)
				_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Errorf("HTTP/1.1: %v, want an answer", err)
					return
				}
				_ = res.Body.Close()
				note(res.StatusCode)
			})
		}
		c := s.caller(attacker)
		defer c.close()
		for range each {
			wg.Go(func() {
				body, feed := io.Pipe()
				defer feed.Close() //nolint:errcheck // It never fails.
				go func() {
					for ctx.Err() == nil {
						if _, err := feed.Write([]byte("{")); err != nil {
							return
						}
						time.Sleep(200 * time.Millisecond)
					}
				}()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.address+"/api/v1/namespaces/default/configmaps?timeout=1s", body)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+attacker)
				res, err := c.http.Do(req)
				if err != nil {
					t.Errorf("HTTP/2: %v, want an answer", err)
					return
				}
				_ = res.Body.Close()
				note(res.StatusCode)
			})
		}
		wg.Wait()
		if timedOut.Load() == 0 {
			t.Error("no slow body was timed out")
		}
		t.Logf("%d timed out, %d refused", timedOut.Load(), refused.Load())
	})
}

// TestSlowHeaders keeps 300 connections busy with header lines that come a few bytes at a time and never end, and 300 more that do nothing
// after, or within, the TLS handshake. They cost the server little, and nobody else anything.
func TestSlowHeaders(t *testing.T) {
	s := lay(t)
	s.under(t, 128<<20, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		hold := func(conn net.Conn, chatter string) {
			wg.Go(func() {
				defer conn.Close()
				for ctx.Err() == nil {
					if _, err := io.WriteString(conn, chatter); err != nil && !errors.Is(err, net.ErrClosed) {
						t.Errorf("connection ended early: %v", err)
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		for range 300 {
			conn := s.dial(t, "http/1.1")
			fmt.Fprint(conn, "GET /api HTTP/1.1\r\nHost: x\r\n")
			hold(conn, "X-More: a\r\n")
		}
		for i := range 300 {
			if i%2 == 0 {
				hold(s.dial(t, "h2"), "") // It does not even send the preface.
				continue
			}
			var d net.Dialer
			plain, err := d.DialContext(t.Context(), "tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := plain.Write([]byte{22, 3, 1, 2, 0}); err != nil { // The beginning of a handshake that never comes.
				t.Fatal(err)
			}
			hold(plain, "")
		}
		wg.Wait()
	})
}

// deaf opens a connection whose kernel buffer is small and sends a request whose answer it never reads.
func (s *siege) deaf(t *testing.T, path string) *tls.Conn {
	t.Helper()
	var d net.Dialer
	plain, err := d.DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() }) // Most tests have closed it.
	if err := plain.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	config := s.trust("http/1.1")
	config.ServerName = "localhost"
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nAuthorization: Bearer %s\r\n\r\n", path, attacker)
	return conn
}

// stock creates n config maps of about size bytes.
func (s *siege) stock(t *testing.T, n, size int) {
	t.Helper()
	maps := client.Of[*corev1.ConfigMap](s.cluster.Admin())
	text := strings.Repeat("x", size)
	for i := range n {
		_, err := maps.Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("stock-%d", i), Labels: map[string]string{"i": fmt.Sprint(i)}},
			Data:       map[string]string{"x": text},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeafReaders asks 20 times for a list of 12 MB and never reads it. The list is shared, not copied for each of them, and when the time of
// the request is over the server gives up writing: nothing of it stays, though the connections do.
func TestDeafReaders(t *testing.T) {
	s := lay(t)
	s.stock(t, 600, 20<<10)
	s.under(t, 384<<20, func(t *testing.T) {
		var conns []*tls.Conn
		for range 20 {
			conns = append(conns, s.deaf(t, "/api/v1/namespaces/default/configmaps?timeout=1s"))
		}
		sheds(t, "apiserver.(*Server).stream(", 4) // More have no seats at a time.
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
}

// TestDeafWatchers starts 60 watches that begin with 13 MB of objects and last a second, and never reads them. The server must give up writing
// when a watch's time is over.
func TestDeafWatchers(t *testing.T) {
	s := lay(t)
	s.stock(t, 200, 64<<10)
	s.under(t, 384<<20, func(t *testing.T) {
		var conns []*tls.Conn
		for range 60 {
			conns = append(conns, s.deaf(t, "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0&timeoutSeconds=1"))
		}
		sheds(t, "apiserver.(*Server).serveWatch(", len(conns)/4) // Some may be over before the last has begun.
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
}
