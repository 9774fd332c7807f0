// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/url"
	"testing"
	"time"
)

// FuzzLogOptions reads arbitrary options of a request for logs.
func FuzzLogOptions(f *testing.F) {
	f.Add("follow=true&tailLines=10&sinceSeconds=5&timestamps=1")
	f.Add("limitBytes=-1")
	f.Add("sinceTime=2026-01-02T03:04:05Z&stream=Stdout")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		o, err := logOptions(q)
		if err != nil {
			return
		}
		if o.LimitBytes != nil && *o.LimitBytes < 0 || o.SinceSeconds != nil && *o.SinceSeconds < 0 {
			t.Errorf("%q yields a negative limit", query)
		}
		readOptions(o, time.Now())
	})
}
