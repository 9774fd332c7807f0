// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package reviewhook asks webhooks for their judgement of a user: who somebody is (TokenReview), what they may do (SubjectAccessReview).
package reviewhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Server is a webhook, as a kubeconfig describes it.
type Server struct {
	// URL that reviews are posted to.
	URL string
	// Client has the kubeconfig's identity and trust, and bounds the time of one try.
	Client *http.Client
}

// Dialer makes the server that a kubeconfig describes, each of whose answers is waited for as long as timeout.
type Dialer func(kubeconfig string, timeout time.Duration) (*Server, error)

// Times of tries. They are upstream's.
const (
	firstPause = 500 * time.Millisecond
	growth     = 1.5
	jitter     = 0.2
	tries      = 5
)

// longestPause is the most that a server may ask to wait before the next try: a request waits, and may have no deadline of its own.
const longestPause = 10 * time.Second

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 1 << 20

// Results of one try, as metrics name them.
const (
	Success  = "success"
	Canceled = "canceled"
	Timeout  = "timeout"
	Failed   = "error"
)

// statusError is an answer that is not 2xx.
type statusError struct {
	url, status string
	code        int
	// after is what the server asks to wait, 0 for nothing.
	after time.Duration
}

func (e *statusError) Error() string { return fmt.Sprintf("%s: answered %s", e.url, e.status) }

// Ask posts a review and reads the answer into out. Failures that may pass are tried again, five times in all. observe is told about each try;
// it may be nil. A server that asks to wait longer than 10 s is not tried again.
func (s *Server) Ask(ctx context.Context, in, out any, observe func(result string, took time.Duration)) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	pause := firstPause
	for n := 1; ; n++ {
		began := time.Now()
		err := s.post(ctx, body, out)
		if observe != nil {
			observe(resultOf(ctx, err), time.Since(began))
		}
		after, again := mayPass(err)
		if err == nil || !again || n == tries || ctx.Err() != nil {
			return err
		}
		wait := max(after, time.Duration(float64(pause)*(1+jitter*rand.Float64())))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		pause = time.Duration(float64(pause) * growth)
	}
}

func (s *Server) post(ctx context.Context, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := s.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", s.URL, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		e := &statusError{url: s.URL, status: resp.Status, code: resp.StatusCode}
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			e.after = time.Duration(min(seconds, math.MaxInt32)) * time.Second
		}
		return e
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: answered no review: %w", s.URL, err)
	}
	return nil
}

// mayPass reports whether a failure is worth another try, and after which time at the earliest.
func mayPass(err error) (time.Duration, bool) {
	var status *statusError
	if !errors.As(err, &status) {
		return 0, utilnet.IsConnectionReset(err) || utilnet.IsHTTP2ConnectionLost(err)
	}
	if status.after > longestPause {
		return 0, false
	}
	switch status.code {
	case http.StatusInternalServerError, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return status.after, true
	}
	return status.after, status.after > 0
}

func resultOf(ctx context.Context, err error) string {
	var status *statusError
	switch {
	case err == nil:
		return Success
	case ctx.Err() != nil:
		return Canceled
	case utilnet.IsTimeout(err), errors.Is(err, context.DeadlineExceeded), errors.As(err, &status) && status.code == http.StatusGatewayTimeout:
		return Timeout
	}
	return Failed
}
