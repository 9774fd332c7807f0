// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// progress shows how far a run is, on a live line.
type progress struct {
	title string
	procs int
	began time.Time
	// clear wipes the line of a terminal; empty where there is none.
	clear string

	mu             sync.Mutex
	left           map[string]int // weights of the tests that have not ended
	total, weight  int            // of all tests: count and weight
	passed, failed int
}

// newProgress expects tests. A serial test weighs as much as procs others: it has the machine for itself.
func newProgress(title string, tests []test, procs int) *progress {
	p := &progress{title: title, procs: procs, began: time.Now(), left: map[string]int{}, total: len(tests)}
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		p.clear = "\r\x1b[K"
	}
	for _, t := range tests {
		p.left[t.name] = 1
		if t.serial {
			p.left[t.name] = procs
		}
		p.weight += p.left[t.name]
	}
	return p
}

// watch shows the line until it is closed.
func (p *progress) watch() (closeIt func()) {
	done, shown := make(chan struct{}), make(chan struct{})
	go func() { defer close(shown); p.show(done) }()
	return func() { close(done); <-shown }
}

// ended counts a test, whose name the suite writes with its labels after it.
func (p *progress) ended(line string, passed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := ""
	for one := range p.left {
		if strings.HasPrefix(line, one) && len(one) > len(name) {
			name = one
		}
	}
	if name == "" {
		return
	}
	delete(p.left, name)
	if passed {
		p.passed++
		return
	}
	p.failed++
	fmt.Printf("%s  failed: %s\n", p.clear, name)
}

// show renews the line every second on a terminal, else prints it twice a minute.
func (p *progress) show(done <-chan struct{}) {
	every := 30 * time.Second
	if p.clear != "" {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-done:
			fmt.Printf("%s%s\n", p.clear, p.line(time.Now()))
			return
		}
		if p.clear == "" {
			fmt.Println(p.line(time.Now()))
		} else {
			fmt.Print(p.clear + p.line(time.Now()))
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
