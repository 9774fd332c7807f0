// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
)

func checkTexts(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestWatchDeliversChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		w := r.watch(cache.WatchOptions{AfterRevision: r.fresh()})
		one := r.put("ns/a", "", "v=1")
		two := r.put("ns/a", "", "v=2")
		three := r.remove("ns/a")
		checkTexts(t, "events", r.read(w, 3),
			fmt.Sprintf("ADDED a(v=1)#%d at %d", one, one),
			fmt.Sprintf("MODIFIED a(v=2)#%d at %d was a(v=1)#%d", two, two, one),
			fmt.Sprintf("DELETED a(v=2)#%d at %d was a(v=2)#%d", three, three, two))
	})
}

func TestWatchFilterTransitions(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		w := r.watch(cache.WatchOptions{AfterRevision: r.fresh(), Filter: matching("app=web")})
		one := r.put("ns/a", "", "app=db")
		two := r.put("ns/a", "", "app=web")
		three := r.put("ns/a", "", "app=web,v=2")
		four := r.put("ns/a", "", "app=db")
		r.put("ns/a", "", "app=db,v=2")
		six := r.put("ns/a", "", "app=web")
		seven := r.remove("ns/a")
		checkTexts(t, "events", r.read(w, 5),
			fmt.Sprintf("ADDED a(app=web)#%d at %d was a(app=db)#%d", two, two, one),
			fmt.Sprintf("MODIFIED a(app=web,v=2)#%d at %d was a(app=web)#%d", three, three, two),
			fmt.Sprintf("DELETED a(app=web,v=2)#%d at %d was a(app=web,v=2)#%d", four, four, three),
			fmt.Sprintf("ADDED a(app=web)#%d at %d was a(app=db,v=2)#%d", six, six, six-1),
			fmt.Sprintf("DELETED a(app=web)#%d at %d was a(app=web)#%d", seven, seven, six))
	})
}

func TestWatchScopes(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		begin := r.fresh()
		all := r.watch(cache.WatchOptions{AfterRevision: begin})
		ns := r.watch(cache.WatchOptions{AfterRevision: begin, Prefix: pods + "one/"})
		key := r.watch(cache.WatchOptions{AfterRevision: begin, Key: pods + "two/b"})
		node := r.watch(cache.WatchOptions{AfterRevision: begin, Index: "n1", Filter: func(e *cache.Entry) bool {
			_, f, err := e.Attrs()
			return err == nil && f["spec.nodeName"] == "n1"
		}})
		one := r.put("one/a", "", "")
		two := r.put("two/b", "n2", "")
		three := r.put("one/a", "n1", "")
		four := r.remove("one/a")
		checkTexts(t, "all", r.read(all, 4),
			fmt.Sprintf("ADDED a()#%d at %d", one, one), fmt.Sprintf("ADDED b()#%d at %d", two, two),
			fmt.Sprintf("MODIFIED a()#%d at %d was a()#%d", three, three, one),
			fmt.Sprintf("DELETED a()#%d at %d was a()#%d", four, four, three))
		checkTexts(t, "namespace", r.read(ns, 3),
			fmt.Sprintf("ADDED a()#%d at %d", one, one),
			fmt.Sprintf("MODIFIED a()#%d at %d was a()#%d", three, three, one),
			fmt.Sprintf("DELETED a()#%d at %d was a()#%d", four, four, three))
		checkTexts(t, "key", r.read(key, 1), fmt.Sprintf("ADDED b()#%d at %d", two, two))
		checkTexts(t, "node", r.read(node, 2),
			fmt.Sprintf("ADDED a()#%d at %d was a()#%d", three, three, one),
			fmt.Sprintf("DELETED a()#%d at %d was a()#%d", four, four, three))
		// Scopes made after the changes find them in the log.
		late := r.watch(cache.WatchOptions{AfterRevision: begin, Index: "n1"})
		checkTexts(t, "late", r.read(late, 2),
			fmt.Sprintf("MODIFIED a()#%d at %d was a()#%d", three, three, one),
			fmt.Sprintf("DELETED a()#%d at %d was a()#%d", four, four, three))
	})
}

func TestWatchInitialEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var want []string
		for i := range 200 {
			text := "app=db"
			if i%2 == 0 {
				text = "app=web"
			}
			rev := r.put(fmt.Sprintf("ns/%03d", i), "", text)
			if i%2 == 0 {
				want = append(want, fmt.Sprintf("ADDED %03d(app=web)#%d at %d", i, rev, rev))
			}
		}
		rev := r.fresh()
		want = append(want, fmt.Sprintf("BOOKMARK end %d", rev))
		w := r.watch(cache.WatchOptions{SendInitialEvents: true, MarkInitialEnd: true, Prefix: pods + "ns/", Filter: matching("app=web")})
		next := r.put("ns/000", "", "app=web,v=2")
		want = append(want, fmt.Sprintf("MODIFIED 000(app=web,v=2)#%d at %d was 000(app=web)#2", next, next))
		checkTexts(t, "events", r.read(w, len(want)), want...)

		one := r.watch(cache.WatchOptions{SendInitialEvents: true, Key: pods + "ns/002"})
		checkTexts(t, "one key", r.read(one, 1), want[1])
	})
}

func TestWatchBookmarks(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+10*time.Second)
		defer cancel()
		deadline, _ := ctx.Deadline()
		w := r.watch(cache.WatchOptions{AfterRevision: r.fresh(), Bookmarks: true, Deadline: deadline})
		// A write of another kind moves the bookmark.
		rev, err := r.store.Create(t.Context(), "/registry/jobs/ns/a", []byte("x"), store.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		checkTexts(t, "events", r.read(w, 1), fmt.Sprintf("BOOKMARK %d", rev))
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("the bookmark came after %v, want a minute", got)
		}
		begin = time.Now()
		events, err := w.Next(ctx)
		if err != nil || len(events) != 1 || events[0].Type != cache.Bookmark || time.Since(begin) != 8*time.Second {
			t.Errorf("Next = %v, %v after %v, want a bookmark two seconds before the deadline", events, err, time.Since(begin))
		}
		if _, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next = %v, want the deadline", err)
		}
	})
}

// TestBookmarkBehindEvents has a bookmark become due while its watcher does not read, as one whose client is slow, and a change follow.
func TestBookmarkBehindEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		w := r.watch(cache.WatchOptions{AfterRevision: r.fresh(), Bookmarks: true, Woken: func() {}})
		poll := func() (texts []string) {
			t.Helper()
			events, err := w.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				texts = append(texts, eventText(ev))
			}
			return texts
		}
		time.Sleep(time.Minute)
		rev := r.put("ns/a", "", "")
		r.fresh()
		bookmark := fmt.Sprintf("BOOKMARK %d", rev)
		checkTexts(t, "events", poll(), fmt.Sprintf("ADDED a()#%d at %d", rev, rev), bookmark)
		time.Sleep(time.Minute - time.Nanosecond)
		checkTexts(t, "events before the next bookmark is due", poll())
		time.Sleep(time.Nanosecond)
		checkTexts(t, "events when it is", poll(), bookmark)
	})
}

// TestPoll has a watcher that never waits: it is told when to look.
func TestPoll(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		told := make(chan struct{}, 100)
		r.put("ns/a", "", "v=1")
		w := r.watch(cache.WatchOptions{SendInitialEvents: true, Bookmarks: true, Woken: func() { told <- struct{}{} }})
		poll := func(want ...string) {
			t.Helper()
			var got []string
			for {
				events, err := w.Poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, ev := range events {
					got = append(got, eventText(ev))
				}
				if w.Drained() {
					checkTexts(t, "events", got, want...)
					return
				}
			}
		}
		one := r.fresh()
		poll(fmt.Sprintf("ADDED a(v=1)#%d at %d", one, one))
		synctest.Wait()
		for len(told) > 0 { // Of the cache's beginning.
			<-told
		}
		poll()
		two := r.put("ns/a", "", "v=2")
		<-told
		poll(fmt.Sprintf("MODIFIED a(v=2)#%d at %d was a(v=1)#%d", two, two, one))
		begin := time.Now()
		<-told
		poll(fmt.Sprintf("BOOKMARK %d", two))
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("told of the bookmark after %v, want a minute", got)
		}
		w.Close()
		<-told
		if _, err := w.Poll(t.Context()); !errors.Is(err, cache.ErrEnded) {
			t.Errorf("Poll = %v, want ErrEnded", err)
		}
	})
}

func TestWatchTooOld(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		one := r.put("ns/a", "", "")
		// The log keeps the last 128 changes for good, others for 75 seconds.
		for range 200 {
			r.put("ns/a", "", "")
		}
		r.fresh()
		slow := r.watch(cache.WatchOptions{AfterRevision: one})
		slowKey := r.watch(cache.WatchOptions{AfterRevision: one, Key: pods + "ns/a"})
		idleKey := r.watch(cache.WatchOptions{AfterRevision: one, Key: pods + "ns/b"})
		time.Sleep(2 * time.Minute)
		last := r.put("ns/a", "", "")
		b := r.put("ns/b", "", "")
		r.fresh()
		for what, w := range map[string]*cache.Watcher{"everything": slow, "one key": slowKey} {
			if events, err := w.Next(t.Context()); !errors.Is(err, store.ErrCompacted) {
				t.Errorf("Next of a slow watcher of %s = %d events, %v, want ErrCompacted", what, len(events), err)
			}
		}
		checkTexts(t, "a watcher whose key did not change", r.read(idleKey, 1), fmt.Sprintf("ADDED b()#%d at %d", b, b))
		if _, err := r.pods.Watch(cache.WatchOptions{AfterRevision: one}); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("Watch(old) = %v, want ErrCompacted", err)
		}
		w := r.watch(cache.WatchOptions{AfterRevision: last - 1, Prefix: pods + "ns/"})
		if got := r.read(w, 2); len(got) != 2 {
			t.Errorf("events = %q, want two", got)
		}
	})
}

func TestStalledWatcherHoldsUpNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		begin := r.fresh()
		r.watch(cache.WatchOptions{AfterRevision: begin}) // Never read.
		w := r.watch(cache.WatchOptions{AfterRevision: begin})
		for i := range 1000 {
			r.put(fmt.Sprintf("ns/%d", i), "", "")
		}
		if got := r.read(w, 1000); len(got) != 1000 {
			t.Errorf("%d events, want 1000", len(got))
		}
	})
}

// A watch ends with its cache, whether that is closed or its feed ends.
func TestWatchEndsWithCache(t *testing.T) {
	for name, closes := range map[string]bool{"closed": true, "with the feed": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				feed, err := cache.NewFeed(cache.FeedConfig{Store: r.store})
				if err != nil {
					t.Fatal(err)
				}
				c, err := cache.New(cache.Config{Feed: feed, Prefix: "/registry/jobs/", Decode: r.decode})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Watch(cache.WatchOptions{}); !errors.Is(err, cache.ErrNotReady) {
					t.Errorf("Watch before the feed runs = %v, want ErrNotReady", err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { _ = feed.Run(ctx) }()
				if err := c.WaitReady(t.Context()); err != nil {
					t.Fatal(err)
				}
				w, err := c.Watch(cache.WatchOptions{AfterRevision: c.Revision()})
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() {
					_, err := w.Next(t.Context())
					ended <- err
				}()
				synctest.Wait()
				if closes {
					c.Close()
				} else {
					cancel()
				}
				if err := <-ended; !errors.Is(err, cache.ErrEnded) {
					t.Errorf("Next = %v, want ErrEnded", err)
				}
				w.Close()
				w.Close()
				c.Close()
				if err := c.WaitReady(t.Context()); !errors.Is(err, cache.ErrEnded) {
					t.Errorf("WaitReady = %v, want ErrEnded", err)
				}
			})
		})
	}
}

func TestCacheOfResourceThatComesAgain(t *testing.T) {
	inFaultyBubble(t, func(t *testing.T, r *rig, f *faulty) {
		things := cache.Config{Feed: r.feed, Prefix: "/registry/example.com/things/", Decode: r.decode}
		first, err := cache.New(things)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cache.New(things); err == nil {
			t.Error("two caches of one prefix are fed")
		}
		f.fail(nil, errors.New("no list yet"))
		first.Close()
		second, err := cache.New(things)
		if err != nil {
			t.Fatal(err)
		}
		first.Close() // Again, which is nothing to the second.
		if _, err := cache.New(things); err == nil {
			t.Error("two caches of one prefix are fed once the first one was closed twice")
		}
		waiting := make(chan error, 1)
		go func() { waiting <- second.WaitReady(t.Context()) }()
		synctest.Wait()
		if second.Ready() {
			t.Error("a cache is ready that can't list")
		}
		f.fail(nil, nil)
		if err := <-waiting; err != nil {
			t.Errorf("the second cache: %v", err)
		}
		second.Close()
		third, err := cache.New(things)
		if err != nil {
			t.Fatal(err)
		}
		if err := third.WaitReady(t.Context()); err != nil {
			t.Errorf("the third cache: %v", err)
		}
		third.Close()
	})
}

// A cache that is closed while it can't list lets those go who wait for it, and nothing goes on for it.
func TestCloseWhileListing(t *testing.T) {
	inFaultyBubble(t, func(t *testing.T, r *rig, f *faulty) {
		f.fail(nil, errors.New("no list at all"))
		c, err := cache.New(cache.Config{Feed: r.feed, Prefix: "/registry/jobs/", Decode: r.decode})
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() { waiting <- c.WaitReady(t.Context()) }()
		time.Sleep(time.Minute)
		c.Close()
		if err := <-waiting; !errors.Is(err, cache.ErrEnded) {
			t.Errorf("WaitReady = %v, want ErrEnded", err)
		}
		f.fail(store.ErrCompacted, nil) // The others list again.
		r.fresh()
		if _, err := c.Watch(cache.WatchOptions{}); !errors.Is(err, cache.ErrEnded) {
			t.Errorf("Watch = %v, want ErrEnded", err)
		}
	})
}

// TestManyWatchersAreToldTogether has a hundred watchers hear of a change at once, and of those that follow it closely together, a little
// later; a watch of few hears of each at once.
func TestManyWatchersAreToldTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		begin := r.fresh()
		crowd := make([]*cache.Watcher, 100)
		for i := range crowd {
			crowd[i] = r.watch(cache.WatchOptions{AfterRevision: begin})
		}
		lone := r.watch(cache.WatchOptions{AfterRevision: begin, Key: pods + "ns/a"})
		heard := func(w *cache.Watcher) int {
			events, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(events)
		}
		start := time.Now()
		pass := func(what string, changes int, late time.Duration) {
			for i, w := range crowd {
				if n := heard(w); n != changes {
					t.Errorf("%s: watcher %d hears of %d changes at once; want %d", what, i, n, changes)
				}
			}
			if waited := time.Since(start); waited != late {
				t.Errorf("%s: heard of after %v; want %v", what, waited, late)
			}
		}
		r.put("ns/a", "", "v=1")
		synctest.Wait() // until all are told
		pass("first change", 1, 0)
		for _, v := range []string{"v=2", "v=3"} {
			r.put("ns/a", "", v)
		}
		r.read(lone, 3)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the lone watcher heard of all changes after %v; want at once", waited)
		}
		pass("two more", 2, 2000*time.Microsecond)
	})
}
