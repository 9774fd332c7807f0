// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2_test

import (
	"bytes"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRequests come one after the other on one connection. Their handlers need a stack of 20 KB, and wait once for another goroutine, as
// for the store. cpu-ns/op is the processor time of both ends: other programs disturb it less than the time that passes.
func BenchmarkRequests(b *testing.B) {
	questions := make(chan chan struct{})
	defer close(questions)
	go func() {
		for answer := range questions {
			close(answer)
		}
	}()
	url, client := serve(b, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // A body that is cut short is answered as it is.
		descend(20, func() {
			answer := make(chan struct{})
			questions <- answer
			<-answer
		})
		_, _ = w.Write(body)
	}))
	for _, c := range []struct {
		name, method string
		body         []byte
	}{{"GET", http.MethodGet, nil}, {"POST of 4 KB", http.MethodPost, make([]byte, 4<<10)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), c.method, url, bytes.NewReader(c.body))
				if err != nil {
					b.Fatal(err)
				}
				res, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, res.Body)
				if _ = res.Body.Close(); err != nil || n != int64(len(c.body)) {
					b.Fatalf("the answer has %d bytes, want %d: %v", n, len(c.body), err)
				}
			}
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// descend calls f with so many KB of stack below it.
//
//go:noinline
func descend(kilobytes int, f func()) byte {
	if kilobytes == 0 {
		f()
		return 0
	}
	var room [1 << 10]byte
	room[kilobytes] = 1
	return descend(kilobytes-1, f) + room[2*kilobytes]
}

// processorTime is what this process has used so far.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
