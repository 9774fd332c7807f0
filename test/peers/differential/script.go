// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// A script is a file of requests that are sent one after the other, and change things:
//
//	# a comment
//	> METHOD PATH [content-type=TYPE] [accept=TYPE] [as=WHO] [header=NAME:VALUE]...
//	body in YAML, sent as JSON; as it is where it does not parse
//	> WATCH PATH        opens a watch
//	> EVENTS            compares what all watches have brought
//	> AWAIT PATH        asks, with options as above, until both servers answer with 200, for what they serve or allow after a while
//	> PAUSE DURATION    waits until both have noticed what they learn of in the background
//	> ANSWER NAME [header=code:CODE] [header=delay:DURATION]
//	body that the webhook at ${hook}/NAME answers with from now on; ${ca} is what to know it by
//	> REVIEWS           compares what the webhooks were asked
type step struct {
	call
	line int
}

// scripts runs every script in testdata/scripts or, for versions on request, testdata/requested.
func (r *run) scripts(ctx context.Context) error {
	folder := "scripts"
	if r.Requested != nil {
		folder = "requested"
	}
	files, err := filepath.Glob(filepath.Join(r.Root, "test/peers/differential/testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%d scripts, %w", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if r.Only != nil && !r.Only.MatchString("script "+name) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		steps, err := parseScript(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		before := r.report.Requests
		if err := r.script(ctx, name, steps); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Fprintf(r.Progress, "%6d requests  script %s\n", r.report.Requests-before, name)
	}
	return nil
}

func parseScript(text string) ([]step, error) {
	var out []step
	var body strings.Builder
	finish := func() {
		if len(out) > 0 && strings.TrimSpace(body.String()) != "" {
			last := &out[len(out)-1]
			last.body = []byte(body.String())
			if data, err := yaml.YAMLToJSON(last.body); err == nil && !strings.Contains(last.contentType, "yaml") {
				last.body = data
			}
		}
		body.Reset()
	}
	number := 0
	for line := range strings.Lines(text) {
		number++
		switch {
		case strings.HasPrefix(line, "> "):
			finish()
			fields := strings.Fields(line[2:])
			s := step{line: number, call: call{method: fields[0], header: http.Header{}}}
			if len(fields) > 1 {
				s.path = fields[1]
			}
			for _, option := range fields[min(2, len(fields)):] {
				switch key, value, _ := strings.Cut(option, "="); key {
				case "content-type":
					s.contentType = value
				case "accept":
					s.accept = value
				case "as":
					s.as = value
				case "header":
					name, text, _ := strings.Cut(value, ":")
					if text, err := url.QueryUnescape(text); err == nil {
						s.header.Add(name, text)
					}
				default:
					return nil, fmt.Errorf("line %d: %q is no option", number, option)
				}
			}
			out = append(out, s)
		case strings.HasPrefix(line, "#"):
		default:
			body.WriteString(line)
		}
	}
	finish()
	return out, nil
}

func (r *run) script(ctx context.Context, name string, steps []step) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := newHook()
	defer h.server.Close()
	for _, side := range []*server{r.ours, r.upstream} {
		h.tell(side)
		defer func() { side.say, side.hear = nil, nil }()
	}
	var watches []*watch
	for i := range steps {
		s := &steps[i]
		title := fmt.Sprintf("script %s:%d", name, s.line)
		var err error
		switch s.method {
		case "WATCH":
			var w *watch
			w, err = r.watch(ctx, s.path)
			watches = append(watches, w)
		case "EVENTS":
			r.events("script "+name, title, watches)
		case "PAUSE":
			err = pause(ctx, s.path)
		case "ANSWER":
			err = h.answer(s)
		case "REVIEWS":
			r.reviews("script "+name, title, h)
		case "AWAIT":
			s.method = "GET"
			err = r.await(ctx, &s.call)
		default:
			_, _, err = r.both(ctx, "script "+name, title, &s.call)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", s.line, err)
		}
	}
	return nil
}

// pause waits for a duration.
func pause(ctx context.Context, duration string) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// await asks both sides until they have, or allow, what is asked for.
func (r *run) await(ctx context.Context, c *call) error {
	const patience, pause = 20 * time.Second, 200 * time.Millisecond
	for deadline := time.Now().Add(patience); ; {
		ours, err := r.ours.ask(ctx, c)
		if err != nil {
			return err
		}
		upstream, err := r.upstream.ask(ctx, c)
		if err != nil || !ours.refused() && !upstream.refused() {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not served after %s: kogge %d, upstream %d", c.path, patience, ours.code, upstream.code)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// watch is one watch on both sides.
type watch struct {
	call           *call
	ours, upstream <-chan any
}

func (r *run) watch(ctx context.Context, path string) (*watch, error) {
	w := &watch{call: &call{method: "GET", path: path}}
	var err error
	if w.ours, err = r.ours.watch(ctx, w.call); err != nil {
		return nil, err
	}
	w.upstream, err = r.upstream.watch(ctx, w.call)
	return w, err
}

// watch opens a watch and sends its events until ctx ends. The channel holds more than any script makes.
func (s *server) watch(ctx context.Context, c *call) (<-chan any, error) {
	res, err := s.open(ctx, c) //nolint:bodyclose // follow closes it.
	if err != nil {
		return nil, err
	}
	out := make(chan any, 1000)
	go follow(ctx, res.Body, out)
	return out, nil
}

// follow decodes the events of a watch into a channel, and closes both at the end.
func follow(ctx context.Context, events io.ReadCloser, out chan<- any) {
	defer close(out)
	defer events.Close()
	decoder := json.NewDecoder(events)
	decoder.UseNumber()
	for {
		var event any
		if err := decoder.Decode(&event); err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) {
				out <- "undecodable: " + err.Error()
			}
			return
		}
		out <- event
	}
}

// events compares what the watches have brought since the last time.
func (r *run) events(subject, title string, watches []*watch) {
	for _, w := range watches {
		ours, upstream := drain(w.ours), drain(w.upstream)
		r.report.Requests++
		for _, d := range compare(w.call, &answer{body: ours}, &answer{body: upstream}) {
			r.report.add(subject, title, w.call, d)
		}
	}
}

// drain takes events until none has come for a while.
func drain(events <-chan any) []any {
	const quiet = 500 * time.Millisecond
	out := []any{}
	for {
		select {
		case event, open := <-events:
			if !open {
				return out
			}
			if m, ok := event.(map[string]any); ok {
				out = append(out, map[string]any{"type": m["type"], "object": stripped(m["object"])})
			} else {
				out = append(out, event)
			}
		case <-time.After(quiet):
			return out
		}
	}
}

// stripped is an object of an event without what every server fills in as it likes.
func stripped(object any) any {
	m, ok := object.(map[string]any)
	if !ok {
		return object
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, own := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields"} {
			delete(meta, own)
		}
	}
	return m
}
