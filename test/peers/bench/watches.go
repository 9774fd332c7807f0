// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
)

const (
	watchPayload  = 4 << 10 // bytes in each event besides the rest of the object
	watchesPerTCP = 50      // streams on a connection; upstream allows 100
	mostWatchers  = 5000
	changeConn    = mostWatchers / watchesPerTCP // the connection of the changes comes after those of the watchers
	watchConns    = changeConn + 1
	fatChanges    = 24 // writes of fatPayload each, which the stalled watcher does not read
	fatPayload    = 512 << 10
)

const configMapsPath = "/api/v1/namespaces/" + namespace + "/configmaps"

// benchWatches measures how soon 100, 1,000 and 5,000 watchers hear of 200 changes a second and what that costs, while one more watcher, of all objects, reads
// nothing though more is meant for it than any buffer takes. The most deliveries are more than either system makes, 20,000 a second leave part of the machine idle.
// The gate: every watcher gets every change once, in order; the stalled one, when it reads at last, gets them in order too, all of them or up
// to an end that tells it to list anew.
func benchWatches(ctx context.Context, r *round, s *subject, user *load.Client) error {
	for _, f := range []fan{{100, 2000, 200}, {1000, 200, 20}, {100, 2000, 0}, {1000, 500, 200}, {mostWatchers, 100, 200}} {
		err := r.profiled(ctx, s, f.String(), func() error { return r.fanOut(ctx, s, user, f) })
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	return nil
}

// fan is a case: so many watchers of so many changes, one after the other, and no more than rate of them a second; zero for as many as go.
type fan struct{ watchers, changes, rate int }

func (f fan) String() string {
	if f.rate == 0 {
		return fmt.Sprintf("%d watchers, as fast as it goes", f.watchers)
	}
	return fmt.Sprintf("%d watchers, %d changes a second", f.watchers, f.rate)
}

// due is when the i-th change is to be written, begun at a time; now, without a rate.
func (f fan) due(begin time.Time, i int) time.Time {
	if f.rate == 0 {
		return time.Now()
	}
	return begin.Add(time.Duration(i) * time.Second / time.Duration(f.rate))
}

// fanOut measures one case.
func (r *round) fanOut(ctx context.Context, s *subject, user *load.Client, f fan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	id := fmt.Sprintf("%d-%d", f.watchers, f.rate)
	name := "changing-" + id
	path := configMapsPath + "?watch=1&fieldSelector=metadata.name%3D" + name
	if err := s.create(ctx, configMapsPath, changing(name, -1, watchPayload)); err != nil {
		return err
	}
	crowd := &crowd{watchers: make([]watcher, f.watchers), begin: time.Now(), sent: make([]time.Duration, f.changes)}
	if err := crowd.open(ctx, user, path); err != nil {
		return err
	}
	stalled, err := r.stall(ctx, user, id)
	if err != nil {
		return err
	}
	defer stalled.Body.Close()
	if err := rest(ctx); err != nil {
		return err
	}
	with, err := cell.Memory()
	if err != nil {
		return err
	}
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	for i := range f.changes {
		due := f.due(begin, i)
		if early := time.Until(due); early > 0 {
			if err := pause(ctx, early); err != nil {
				return err
			}
		}
		crowd.sent[i] = due.Sub(crowd.begin) // A write that the ones before it held up is late for its watchers.
		put := load.Request{Method: "PUT", Path: configMapsPath + "/" + name, ContentType: load.JSON, Accept: load.Protobuf, Body: encode(changing(name, i, watchPayload))}
		if _, err := user.Do(ctx, changeConn, put); err != nil {
			return err
		}
	}
	if err := crowd.wait(ctx); err != nil {
		return err
	}
	took := time.Since(begin)
	usedAfter, err := cell.CPU()
	if err != nil {
		return err
	}
	delays, c := crowd.delays(), f.String()
	if f.rate == 0 {
		r.more(c, "deliveries per second", float64(len(delays))/took.Seconds())
	} else { // Where the one writes faster than the other, more is under way, and all of it later.
		r.less(c, "write to delivery, median ms", milliseconds(load.Percentile(delays, 50)))
		r.less(c, "write to delivery, 99 % within ms", milliseconds(load.Percentile(delays, 99)))
	}
	r.less(c, "CPU µs per delivery", microseconds(usedAfter-used)/float64(len(delays)))
	r.less(c, "watches that the server ended", float64(crowd.resumed()))
	r.less(c, "resident MiB with them", mebibytes(with.RSS))
	return readStalled(stalled.Body)
}

// stall opens a watch of everything, reads nothing of it, and has more written than fits between it and the server.
func (r *round) stall(ctx context.Context, user *load.Client, id string) (*http.Response, error) {
	name := "fat-" + id
	path := configMapsPath + "?labelSelector=crowd%3D" + id
	stalled, err := user.Slow().Open(ctx, 0, load.Request{Method: "GET", Path: path + "&watch=1", Accept: load.JSON})
	if err != nil {
		return nil, err
	}
	for i := -1; i < fatChanges; i++ {
		o := changing(name, i, fatPayload)
		o["metadata"].(object)["labels"] = object{"crowd": id}
		req := load.Request{Method: "PUT", Path: configMapsPath + "/" + name, ContentType: load.JSON, Accept: load.Protobuf, Body: encode(o)}
		if i < 0 {
			req.Method, req.Path = "POST", configMapsPath
		}
		if _, err := user.Do(ctx, changeConn, req); err != nil {
			return nil, errors.Join(err, stalled.Body.Close())
		}
	}
	return stalled, nil
}

// changing is the object that changes, for the i-th time; -1 is how it begins.
func changing(name string, i, payload int) object {
	return object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": name},
		"data": object{"change": fmt.Sprintf("#%d#", i), "payload": string(bytes.Repeat([]byte("x"), payload))},
	}
}

// changeIn finds which change an event tells of.
func changeIn(line []byte) (int, error) {
	_, rest, found := bytes.Cut(line, []byte(`"change":"#`))
	number, _, closed := bytes.Cut(rest, []byte(`#"`))
	if !found || !closed {
		return 0, fmt.Errorf("event without a change: %.200s", line)
	}
	return strconv.Atoi(string(number))
}

// crowd are the watchers that read. Moments are since begin.
type crowd struct {
	watchers []watcher
	begin    time.Time
	sent     []time.Duration
	group    sync.WaitGroup
}

// watcher is one of them. Its goroutine alone touches it until it is done.
type watcher struct {
	heard []time.Duration
	err   error
	// resumed counts how often the server ended the watch and it was begun anew, after the last event.
	resumed int
}

// open starts the watches and returns when each has its first event, the object as it began.
func (c *crowd) open(ctx context.Context, user *load.Client, path string) error {
	opened := make(chan error, len(c.watchers))
	for i := range c.watchers {
		c.group.Go(func() {
			w := &c.watchers[i]
			w.heard = make([]time.Duration, 0, len(c.sent))
			began := false
			w.resumed, w.err = watch(ctx, user, i/watchesPerTCP, path, func(line []byte) (bool, error) {
				at := time.Since(c.begin)
				want := len(w.heard)
				if !began {
					want = -1
				}
				if n, err := changeIn(line); err != nil || n != want {
					return false, fmt.Errorf("heard of change %d instead of %d (%w)", n, want, err)
				}
				if !began {
					began = true
					opened <- nil
					return false, nil
				}
				w.heard = append(w.heard, at)
				return len(w.heard) == len(c.sent), nil
			})
			if !began {
				opened <- w.err
			}
		})
	}
	for range c.watchers {
		if err := <-opened; err != nil {
			return err
		}
	}
	return nil
}

// wait returns when every watcher has heard of every change.
func (c *crowd) wait(ctx context.Context) error {
	c.group.Wait()
	failed, first := 0, error(nil)
	for i := range c.watchers {
		if w := &c.watchers[i]; w.err != nil {
			if failed++; first == nil {
				first = fmt.Errorf("watcher %d after %d of %d changes: %w", i, len(w.heard), len(c.sent), w.err)
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d watchers, the first of them %w", failed, len(c.watchers), first)
	}
	return ctx.Err()
}

// resumed is how many watches the server ended.
func (c *crowd) resumed() (n int) {
	for i := range c.watchers {
		n += c.watchers[i].resumed
	}
	return n
}

// delays from the begin of each write to each watcher's hearing of it, sorted.
func (c *crowd) delays() []time.Duration {
	var out []time.Duration
	for i := range c.watchers {
		for change, at := range c.watchers[i].heard {
			out = append(out, at-c.sent[change])
		}
	}
	slices.Sort(out)
	return out
}

// readStalled reads what a watcher that slept was sent.
func readStalled(body io.ReadCloser) error {
	timer := time.AfterFunc(20*time.Second, func() { body.Close() }) // ends the read below
	defer timer.Stop()
	lines := bufio.NewReader(body)
	for want := -1; want < fatChanges; want++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF || bytes.Contains(line, []byte(`"type":"ERROR"`)) {
			return nil // it is to list anew
		}
		if err != nil {
			return fmt.Errorf("the stalled watcher, after change %d: %w", want-1, err)
		}
		if n, err := changeIn(line); err != nil || n != want {
			return fmt.Errorf("the stalled watcher heard of change %d instead of %d (%w)", n, want, err)
		}
	}
	return nil
}
