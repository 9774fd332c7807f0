// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package storetest is the conformance suite of store.Store: what it checks is what the rest of kogge relies on.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"kogge.dev/kogge/store"
)

// Suite runs the checks on the stores that Open makes.
type Suite struct {
	// Open returns an empty store; what must be cleaned up, it registers with t.Cleanup.
	Open func(t *testing.T) store.Store
	// Bubble runs each check in a testing/synctest bubble, on virtual time.
	Bubble bool
	// Timeless leaves out the checks of times to live. A store that has no time of its own to spare, as the machine may stand still for longer, has
	// them checked in bubbles.
	Timeless bool
}

// check is one named check.
type check struct {
	name string
	run  func(t *testing.T, s store.Store)
	// slow checks wait for real time to pass; they do so together.
	slow bool
}

// Run runs all checks as subtests.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	var all []check
	all = append(all, keyChecks...)
	all = append(all, listChecks...)
	all = append(all, watchChecks...)
	all = append(all, linearChecks...)
	for _, c := range timeChecks {
		c.slow = true
		if !s.Timeless {
			all = append(all, c)
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			if c.slow && !s.Bubble {
				t.Parallel()
			}
			if s.Bubble {
				synctest.Test(t, func(t *testing.T) { c.run(t, s.Open(t)) })
				return
			}
			c.run(t, s.Open(t))
		})
	}
}

// create stores a key that must not be there.
func create(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Create(t.Context(), key, []byte(value), store.WriteOptions{})
	if err != nil {
		t.Fatalf("Create(%s): %v", key, err)
	}
	return rev
}

func update(t *testing.T, s store.Store, key, value string, expected int64) int64 {
	t.Helper()
	rev, err := s.Update(t.Context(), key, []byte(value), expected, store.WriteOptions{})
	if err != nil {
		t.Fatalf("Update(%s, expected %d): %v", key, expected, err)
	}
	return rev
}

func remove(t *testing.T, s store.Store, key string, expected int64) int64 {
	t.Helper()
	rev, err := s.Delete(t.Context(), key, expected)
	if err != nil {
		t.Fatalf("Delete(%s, expected %d): %v", key, expected, err)
	}
	return rev
}

func compact(t *testing.T, s store.Store, revision int64) {
	t.Helper()
	if err := s.Compact(t.Context(), revision); err != nil {
		t.Fatalf("Compact(%d): %v", revision, err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

// text prints a record in a form that is compared as text.
func text(r store.Record) string {
	return fmt.Sprintf("%s=%s created %d modified %d", r.Key, r.Value, r.CreateRevision, r.ModRevision)
}

func texts(records []store.Record) []string {
	out := []string{}
	for _, r := range records {
		out = append(out, text(r))
	}
	return out
}

// recorder runs a Watch and hands over what it delivers.
type recorder struct {
	batches chan store.Batch
	done    chan error
}

// record begins a watch that ends with the test, or with the function that it returns.
func record(t *testing.T, s store.Store, prefix string, after int64) (*recorder, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{batches: make(chan store.Batch, 10000), done: make(chan error, 1)}
	go func() {
		r.done <- s.Watch(ctx, prefix, after, func(b store.Batch) error {
			r.batches <- b
			return nil
		})
	}()
	t.Cleanup(cancel)
	return r, cancel
}

// events waits for n events and returns them as texts. It checks what holds for every batch.
func (r *recorder) events(t *testing.T, n int) []string {
	t.Helper()
	out := []string{}
	var last int64
	for len(out) < n {
		b := r.batch(t)
		for _, ev := range b.Events {
			if ev.ModRevision <= last {
				t.Errorf("event at revision %d after one at %d", ev.ModRevision, last)
			}
			last = ev.ModRevision
			out = append(out, eventText(ev))
		}
		if len(b.Events) > 0 && b.Revision < last {
			t.Errorf("batch of revision %d with an event at %d", b.Revision, last)
		}
	}
	return out
}

func (r *recorder) batch(t *testing.T) store.Batch {
	t.Helper()
	select {
	case b := <-r.batches:
		return b
	case err := <-r.done:
		t.Fatalf("Watch ended: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("Watch delivered nothing")
	}
	return store.Batch{}
}

func eventText(ev store.Event) string {
	verb := "updated"
	switch {
	case ev.Created:
		verb = "created"
	case ev.Deleted:
		verb = "deleted"
	}
	return verb + " " + text(ev.Record)
}
