// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// progress shows how far a run is, on a live line. The suite posts each test's end to it.
type progress struct {
	title string
	procs int
	began time.Time

	mu             sync.Mutex
	left           map[string]int // weights of the tests that have not ended
	total, weight  int            // of all tests: count and weight
	passed, failed int
}

// newProgress expects tests. A serial test weighs as much as procs others: it has the machine for itself.
func newProgress(title string, tests []test, procs int) *progress {
	p := &progress{title: title, procs: procs, began: time.Now(), left: map[string]int{}, total: len(tests)}
	for _, t := range tests {
		p.left[t.name] = 1
		if t.serial {
			p.left[t.name] = procs
		}
		p.weight += p.left[t.name]
	}
	return p
}

// listen takes the suite's posts at the URL that it returns, and shows the line until it is closed.
func (p *progress) listen() (url string, closeAll func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // until it is closed
	done, shown := make(chan struct{}), make(chan struct{})
	go func() { defer close(shown); p.show(done) }()
	return "http://" + listener.Addr().String(), func() { close(done); <-shown; server.Close() }, nil
}

// ServeHTTP takes a report of the suite's form: "PASSED name" or "FAILED name" in msg. Its counts are of one process of many.
func (p *progress) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var report struct {
		Message string `json:"msg"`
	}
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		return
	}
	verdict, name, _ := strings.Cut(report.Message, " ")
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, expected := p.left[name]; !expected {
		return
	}
	switch verdict {
	case "PASSED":
		p.passed++
	case "FAILED":
		p.failed++
		fmt.Printf("\r\x1b[K  failed: %s\n", name)
	default:
		return
	}
	delete(p.left, name)
}

// show renews the line every second on a terminal, else prints it twice a minute.
func (p *progress) show(done <-chan struct{}) {
	terminal, every := "", 30*time.Second
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		terminal, every = "\r\x1b[K", time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-done:
			fmt.Printf("%s%s\n", terminal, p.line(time.Now()))
			return
		}
		if terminal == "" {
			fmt.Println(p.line(time.Now()))
		} else {
			fmt.Print(terminal + p.line(time.Now()))
		}
	}
}

func (p *progress) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	left, serialOnly := 0, true
	for _, weight := range p.left {
		left += weight
		serialOnly = serialOnly && weight > 1
	}
	running := min(p.procs, len(p.left))
	if serialOnly {
		running = min(1, len(p.left))
	}
	end := "unknown"
	if done := p.weight - left; done > 0 {
		elapsed := now.Sub(p.began)
		end = now.Add(elapsed * time.Duration(left) / time.Duration(done)).Format("15:04")
	}
	return fmt.Sprintf("%s: %d of %d done, %d passed, %d failed, %d running, %s elapsed, expected end %s",
		p.title, p.total-len(p.left), p.total, p.passed, p.failed, running, now.Sub(p.began).Round(time.Second), end)
}
