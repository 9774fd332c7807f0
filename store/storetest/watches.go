// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/store"
)

var watchChecks = []check{
	{name: "a watch delivers every kind of change", run: func(t *testing.T, s store.Store) {
		r, _ := record(t, s, "/registry/pods/", now(t, s))
		one := create(t, s, "/registry/pods/a", "1")
		create(t, s, "/registry/podsets/a", "1")
		two := update(t, s, "/registry/pods/a", "2", one)
		three := remove(t, s, "/registry/pods/a", two)
		checkEvents(t, r, changes(one, two, three))
	}},
	{name: "a watch begins after an old revision", run: func(t *testing.T, s store.Store) {
		one := create(t, s, "/registry/pods/a", "1")
		two := update(t, s, "/registry/pods/a", "2", one)
		three := remove(t, s, "/registry/pods/a", two)
		for skip, after := range []int64{one - 1, one, two} {
			r, stop := record(t, s, "/registry/pods/", after)
			checkEvents(t, r, changes(one, two, three)[skip:])
			stop()
		}
	}},
	{name: "a watch of the compacted past is refused", run: func(t *testing.T, s store.Store) {
		one := create(t, s, "/registry/pods/a", "1")
		two := update(t, s, "/registry/pods/a", "2", one)
		three := remove(t, s, "/registry/pods/a", two)
		compact(t, s, two)
		r, _ := record(t, s, "/registry/pods/", one-1)
		select {
		case err := <-r.done:
			wantErr(t, "Watch(compacted)", err, store.ErrCompacted)
		case <-time.After(10 * time.Second):
			t.Error("Watch(compacted) goes on")
		}
		r, _ = record(t, s, "/registry/pods/", two)
		checkEvents(t, r, changes(one, two, three)[2:])
	}},
	{name: "a watch begins in the future", run: func(t *testing.T, s store.Store) {
		one := create(t, s, "/registry/pods/a", "1")
		r, _ := record(t, s, "/registry/pods/", one+1)
		create(t, s, "/registry/pods/b", "skipped")
		three := create(t, s, "/registry/pods/c", "1")
		checkEvents(t, r, []string{fmt.Sprintf("created /registry/pods/c=1 created %d modified %d", three, three)})
	}},
	{name: "every change comes exactly once to every watch", run: checkExactlyOnce},
	{name: "no read is older than an event", run: checkReadsAfterEvents},
	{name: "progress marks come to all watches", run: func(t *testing.T, s store.Store) {
		quiet, _ := record(t, s, "/registry/quiet/", now(t, s))
		busy, _ := record(t, s, "/registry/pods/", now(t, s))
		rev := create(t, s, "/registry/pods/a", "1")
		busy.events(t, 1)
		for _, r := range []*recorder{quiet, busy} {
			checkProgress(t, s, r, rev)
		}
	}},
	{name: "a progress mark comes after the events before it", run: checkMarks},
	{name: "a watch of all keys", run: func(t *testing.T, s store.Store) {
		r, _ := record(t, s, "", now(t, s))
		one := create(t, s, "\xff", "1")
		two := create(t, s, "/registry/pods/a", "1")
		checkEvents(t, r, []string{
			fmt.Sprintf("created \xff=1 created %d modified %d", one, one),
			fmt.Sprintf("created /registry/pods/a=1 created %d modified %d", two, two),
		})
	}},
	{name: "the caller's error ends the watch", run: func(t *testing.T, s store.Store) {
		enough := errors.New("enough")
		after := now(t, s)
		create(t, s, "/registry/pods/a", "1")
		wantErr(t, "Watch", s.Watch(t.Context(), "/registry/pods/", after, func(store.Batch) error { return enough }), enough)
	}},
	{name: "the end of the context ends the watch", run: func(t *testing.T, s store.Store) {
		r, stop := record(t, s, "/registry/pods/", now(t, s))
		create(t, s, "/registry/pods/a", "1")
		r.events(t, 1)
		stop()
		wantErr(t, "Watch", <-r.done, context.Canceled)
	}},
	{name: "a blocked watch blocks nobody else and misses nothing", run: checkBlocked},
}

// now is the store's revision.
func now(t *testing.T, s store.Store) int64 {
	t.Helper()
	rev, err := s.Revision(t.Context())
	if err != nil {
		t.Fatalf("Revision: %v", err)
	}
	return rev
}

// changes are the events of a key that was created, updated and deleted.
func changes(one, two, three int64) []string {
	return []string{
		fmt.Sprintf("created /registry/pods/a=1 created %d modified %d", one, one),
		fmt.Sprintf("updated /registry/pods/a=2 created %d modified %d", one, two),
		fmt.Sprintf("deleted /registry/pods/a=2 created %d modified %d", one, three),
	}
}

func checkEvents(t *testing.T, r *recorder, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, r.events(t, len(want))); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// checkProgress asks until a mark comes that is as new as revision: a watch that has only begun may miss a question.
func checkProgress(t *testing.T, s store.Store, r *recorder, revision int64) {
	t.Helper()
	for range 100 {
		if err := s.Progress(t.Context()); err != nil {
			t.Fatalf("Progress: %v", err)
		}
		select {
		case b := <-r.batches:
			if len(b.Events) > 0 {
				t.Fatalf("an event instead of a progress mark: %s", eventText(b.Events[0]))
			}
			if b.Revision >= revision {
				return
			}
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Errorf("no progress mark of revision %d", revision)
}

// checkMarks asks for marks while keys are written. All of them are watched: a mark of a revision without its event is early.
func checkMarks(t *testing.T, s store.Store) {
	const writers, each = 3, 100
	begin := now(t, s)
	wait := createMany(t, s, writers, each, func() {
		if err := s.Progress(t.Context()); err != nil {
			t.Errorf("Progress: %v", err)
		}
	})
	last, enough := begin, errors.New("enough")
	err := s.Watch(t.Context(), "/registry/pods/", begin, func(b store.Batch) error {
		for _, ev := range b.Events {
			if ev.ModRevision != last+1 {
				t.Errorf("an event of revision %d comes after revision %d", ev.ModRevision, last)
			}
			last = ev.ModRevision
		}
		if b.Revision > last {
			t.Errorf("a mark of revision %d comes after an event of revision %d", b.Revision, last)
		}
		if last == begin+writers*each {
			return enough
		}
		return nil
	})
	wait()
	wantErr(t, "Watch", err, enough)
}

// createMany begins to create pods, by several writers at a time, and calls then after each. Its result waits for all of them.
func createMany(t *testing.T, s store.Store, writers, each int, then func()) (wait func()) {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := s.Create(t.Context(), fmt.Sprintf("/registry/pods/%d-%d", w, i), []byte("1"), store.WriteOptions{}); err != nil {
					t.Errorf("Create: %v", err)
				}
				then()
			}
		})
	}
	return wg.Wait
}

func checkExactlyOnce(t *testing.T, s store.Store) {
	const writers, each = 4, 50
	begin := now(t, s)
	early, _ := record(t, s, "/registry/pods/", begin)
	wait := createMany(t, s, writers, each, func() {})
	middle, _ := record(t, s, "/registry/pods/", begin)
	wait()
	late, _ := record(t, s, "/registry/pods/", begin)
	want := early.events(t, writers*each)
	for what, r := range map[string]*recorder{"one begun among the writes": middle, "one begun after the writes": late} {
		if diff := cmp.Diff(want, r.events(t, writers*each)); diff != "" {
			t.Errorf("%s sees other events (-first +this):\n%s", what, diff)
		}
	}
	last := create(t, s, "/registry/pods/last", "1")
	for _, r := range []*recorder{early, middle, late} {
		checkEvents(t, r, []string{fmt.Sprintf("created /registry/pods/last=1 created %d modified %d", last, last)})
	}
}

// checkReadsAfterEvents reads whatever a watch has just told of.
func checkReadsAfterEvents(t *testing.T, s store.Store) {
	const n = 1000
	begin := now(t, s)
	var wg sync.WaitGroup
	wg.Go(func() {
		rev, err := s.Create(t.Context(), "/registry/pods/a", []byte("1"), store.WriteOptions{})
		for i := 1; i < n && err == nil; i++ {
			rev, err = s.Update(t.Context(), "/registry/pods/a", []byte("1"), rev, store.WriteOptions{})
		}
		if err != nil {
			t.Errorf("write: %v", err)
		}
	})
	told, done := 0, errors.New("told of all")
	err := s.Watch(t.Context(), "/registry/pods/", begin, func(b store.Batch) error {
		for _, ev := range b.Events {
			told++
			got, _, err := s.Get(t.Context(), ev.Key)
			if err != nil || got.ModRevision < ev.ModRevision {
				t.Errorf("Get after the event of revision %d = revision %d, %v", ev.ModRevision, got.ModRevision, err)
			}
			if page, err := s.List(t.Context(), store.ListOptions{Prefix: "/registry/pods/", Revision: ev.ModRevision}); err != nil || page.Records[0].ModRevision != ev.ModRevision {
				t.Errorf("List at the event's revision %d = %+v, %v", ev.ModRevision, page, err)
			}
			if rev, err := s.Revision(t.Context()); err != nil || rev < ev.ModRevision {
				t.Errorf("Revision after the event of revision %d = %d, %v", ev.ModRevision, rev, err)
			}
		}
		if told == n {
			return done
		}
		return nil
	})
	wg.Wait()
	if !errors.Is(err, done) {
		t.Errorf("Watch ended after %d events: %v", told, err)
	}
}

func checkBlocked(t *testing.T, s store.Store) {
	const n = 500
	begin := now(t, s)
	release, got := make(chan struct{}), make(chan int64, n)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Watch(ctx, "/registry/pods/", begin, func(b store.Batch) error {
			<-release
			for _, ev := range b.Events {
				got <- ev.ModRevision
			}
			return nil
		})
	}()
	free, _ := record(t, s, "/registry/pods/", begin)
	for i := range n {
		create(t, s, fmt.Sprintf("/registry/pods/%d", i), "1")
	}
	free.events(t, n)
	close(release)
	for i := range n {
		if rev := <-got; rev != begin+int64(i)+1 {
			t.Fatalf("event %d is of revision %d, want %d", i, rev, begin+int64(i)+1)
		}
	}
	cancel()
	<-ended
}
