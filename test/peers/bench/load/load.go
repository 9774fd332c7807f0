// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package load is the neutral client: plain HTTP/2 over TLS with bodies that were encoded before the clock starts, the same for
// every server. It knows nothing of Kubernetes but paths, and asks for no compression, so that it costs little and equally much.
package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Client sends requests over a fixed number of connections.
type Client struct {
	server string
	conns  []*http.Client
}

// New returns a client with so many connections, each opened by its first request.
func New(server string, identity *tls.Config, conns int) *Client {
	c := &Client{server: server}
	for range conns {
		c.conns = append(c.conns, &http.Client{Transport: &http.Transport{
			TLSClientConfig: identity.Clone(), ForceAttemptHTTP2: true, DisableCompression: true, MaxIdleConnsPerHost: 100,
		}})
	}
	return c
}

// Slow returns a client of the same identity with one connection of HTTP/1.1, whose answer the kernel alone buffers: who does not
// read it stops the server's writes soon.
func (c *Client) Slow() *Client {
	transport := c.conns[0].Transport.(*http.Transport)
	return &Client{server: c.server, conns: []*http.Client{{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: transport.TLSClientConfig.RootCAs, Certificates: transport.TLSClientConfig.Certificates},
		TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{}, DisableCompression: true,
	}}}}
}

// Close closes the connections that nothing uses.
func (c *Client) Close() {
	for _, conn := range c.conns {
		conn.CloseIdleConnections()
	}
}

// Request is one request. The zero value of a field leaves the header out.
type Request struct {
	Method, Path        string
	ContentType, Accept string
	Body                []byte
}

// The encodings of the API.
const (
	JSON     = "application/json"
	Protobuf = "application/vnd.kubernetes.protobuf"
	Merge    = "application/strategic-merge-patch+json"
	Apply    = "application/apply-patch+yaml"
)

// StatusError is an answer other than 2xx.
type StatusError struct {
	Request string
	Code    int
	Body    []byte
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: status %d: %.300s", e.Request, e.Code, e.Body)
}

// Open sends a request on connection i (modulo how many there are) and returns the open answer, which is 2xx.
func (c *Client) Open(ctx context.Context, i int, r Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, c.server+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	if r.Accept != "" {
		req.Header.Set("Accept", r.Accept)
	}
	req.Header.Set("User-Agent", "bench")
	res, err := c.conns[i%len(c.conns)].Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		body, _ := io.ReadAll(res.Body) // for the message only
		res.Body.Close()
		return nil, &StatusError{Request: r.Method + " " + r.Path, Code: res.StatusCode, Body: body}
	}
	return res, nil
}

// Do sends a request and reads the whole answer.
func (c *Client) Do(ctx context.Context, i int, r Request) ([]byte, error) {
	res, err := c.Open(ctx, i, r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if n := res.ContentLength; n >= 0 {
		body := make([]byte, n)
		_, err := io.ReadFull(res.Body, body)
		return body, err
	}
	return io.ReadAll(res.Body)
}

// Result of a run.
type Result struct {
	Count   int
	Elapsed time.Duration
	latency []time.Duration // sorted
}

// PerSecond is the rate.
func (r Result) PerSecond() float64 { return float64(r.Count) / r.Elapsed.Seconds() }

// Percentile of the latency, 0 < p <= 100.
func (r Result) Percentile(p float64) time.Duration { return Percentile(r.latency, p) }

// Percentile of sorted durations: the smallest that at least p per cent don't exceed.
func Percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(float64(len(sorted))*p/100+0.9999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// Run sends count requests from so many workers, each the next as soon as the last is answered. check, where given, looks at
// each answer; its error, or any answer but 2xx, ends the run.
func (c *Client) Run(ctx context.Context, workers, count int, request func(i int) Request, check func(i int, body []byte) error) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latency := make([]time.Duration, count)
	var next atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for w := range workers {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count || ctx.Err() != nil {
					return
				}
				r := request(i)
				sent := time.Now()
				body, err := c.Do(ctx, w, r)
				latency[i] = time.Since(sent)
				if err == nil && check != nil {
					err = check(i, body)
				}
				if err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	group.Wait()
	result := Result{Count: count, Elapsed: time.Since(start), latency: latency}
	slices.Sort(result.latency)
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	return result, nil
}

// Retry calls f until it succeeds, every pause, until ctx ends.
func Retry(ctx context.Context, pause time.Duration, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
