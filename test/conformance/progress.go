// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
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
	left           map[string]time.Duration // what each test that has not ended takes of all the places there are
	serial         map[string]bool
	total          int           // of tests
	work           time.Duration // of all tests
	passed, failed int
}

// failedPart stands before the text of the node of a test that failed.
var failedPart = regexp.MustCompile(`\[(It|BeforeEach|AfterEach|JustBeforeEach|JustAfterEach|DeferCleanup \([A-Za-z]+\))\] `)

// typical is how long a test takes of which nothing is known.
const typical = 15 * time.Second

// newProgress expects tests, which take as long as they took before. A serial test takes the places of all others too.
func newProgress(title string, tests []test, procs int, known map[string]time.Duration) *progress {
	p := &progress{
		title: title, procs: procs, began: time.Now(), left: map[string]time.Duration{}, serial: map[string]bool{}, total: len(tests),
	}
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		p.clear = "\r\x1b[K"
	}
	for _, t := range tests {
		takes, ok := known[t.name]
		if !ok {
			takes = typical
		}
		if t.serial {
			takes *= time.Duration(procs)
		}
		p.left[t.name], p.serial[t.name] = takes, t.serial
		p.work += takes
	}
	return p
}

// watch shows the line until it is closed.
func (p *progress) watch() (closeIt func()) {
	done, shown := make(chan struct{}), make(chan struct{})
	go func() { defer close(shown); p.show(done) }()
	return func() { close(done); <-shown }
}

// ended counts a test and returns its name, or "" if it is none of those expected. The suite writes its labels after the name,
// and before a part of it what failed there.
func (p *progress) ended(line string, passed bool) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	line = failedPart.ReplaceAllString(line, "")
	name := ""
	for one := range p.left {
		if strings.HasPrefix(line, one) && len(one) > len(name) {
			name = one
		}
	}
	if name == "" {
		return ""
	}
	delete(p.left, name)
	if passed {
		p.passed++
		return name
	}
	p.failed++
	fmt.Fprintf(os.Stdout, "%s  failed: %s\n", p.clear, name)
	return name
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
			fmt.Fprintf(os.Stdout, "%s%s\n", p.clear, p.line(time.Now()))
			return
		}
		if p.clear == "" {
			fmt.Fprintln(os.Stdout, p.line(time.Now()))
		} else {
			fmt.Fprint(os.Stdout, p.clear+p.line(time.Now()))
		}
	}
}

func (p *progress) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left time.Duration
	parallel := 0
	for name, takes := range p.left {
		left += takes
		if !p.serial[name] {
			parallel++
		}
	}
	running := min(p.procs, parallel)
	if parallel == 0 {
		running = min(1, len(p.left))
	}
	end := "unknown"
	if done := p.work - left; done > 0 {
		elapsed := now.Sub(p.began)
		end = now.Add(time.Duration(float64(elapsed) * float64(left) / float64(done))).Format("15:04")
	}
	return fmt.Sprintf("%s: %d of %d done, %d passed, %d failed, %d running, %s elapsed, expected end %s",
		p.title, p.total-len(p.left), p.total, p.passed, p.failed, running, now.Sub(p.began).Round(time.Second), end)
}

// durationsFile holds how long tests took when they last passed, in nanoseconds.
func (o options) durationsFile() string { return o.scratch("durations.json") }

// durations are empty before the first run.
func durations(o options) (map[string]time.Duration, error) {
	known := map[string]time.Duration{}
	text, err := os.ReadFile(o.durationsFile())
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	return known, json.Unmarshal(text, &known)
}

// learn adds what a run's tests took.
func learn(o options, known map[string]time.Duration, results []result) error {
	for _, one := range results {
		if one.passed {
			known[one.name] = one.duration
		}
	}
	text, err := json.MarshalIndent(known, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.durationsFile(), text, 0o644)
}
