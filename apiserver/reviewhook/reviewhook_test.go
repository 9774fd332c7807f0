// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reviewhook

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// flaky answers with a status and a Retry-After so many times, then with a review.
type flaky struct {
	code, failures int
	after          string

	asked int
}

// RoundTrip implements http.RoundTripper.
func (f *flaky) RoundTrip(*http.Request) (*http.Response, error) {
	f.asked++
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}
	if f.asked <= f.failures {
		resp.StatusCode = f.code
		resp.Header.Set("Retry-After", f.after)
	}
	resp.Status = http.StatusText(resp.StatusCode)
	return resp, nil
}

// TestTries holds which failures are tried again and how long a request waits for it, where it has no deadline.
func TestTries(t *testing.T) {
	for _, c := range []struct {
		name        string
		server      flaky
		asked       int
		refused     bool
		least, most time.Duration
	}{
		{name: "a failure that passes", server: flaky{code: 500, failures: 1}, asked: 2, least: firstPause, most: 2 * firstPause},
		{name: "one that stays", server: flaky{code: 500, failures: 9}, asked: tries, refused: true, least: 4 * time.Second, most: 5 * time.Second},
		{name: "one that can't pass", server: flaky{code: 503, failures: 1}, asked: 1, refused: true},
		{name: "one that says when it passes", server: flaky{code: 503, failures: 1, after: "2"}, asked: 2, least: 2 * time.Second, most: 2 * time.Second},
		{name: "the longest pause", server: flaky{code: 429, failures: 1, after: "10"}, asked: 2, least: longestPause, most: longestPause},
		{name: "a longer one", server: flaky{code: 429, failures: 1, after: "11"}, asked: 1, refused: true},
		{name: "a day", server: flaky{code: 429, failures: 1, after: "86400"}, asked: 1, refused: true},
		{name: "more than a duration holds", server: flaky{code: 429, failures: 1, after: "9223372036854775807"}, asked: 1, refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{URL: "https://hook", Client: &http.Client{Transport: &c.server}}
				began := time.Now()
				err := s.Ask(t.Context(), struct{}{}, &struct{}{}, nil)
				if took := time.Since(began); took < c.least || took > c.most {
					t.Errorf("took %s, want %s to %s", took, c.least, c.most)
				}
				if c.server.asked != c.asked || (err != nil) != c.refused {
					t.Errorf("asked %d times with the error %v, want %d, an error: %v", c.server.asked, err, c.asked, c.refused)
				}
			})
		})
	}
}
