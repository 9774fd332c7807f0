// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

// faulty is a store whose watches and lists can be made to fail.
type faulty struct {
	store.Store

	mu sync.Mutex
	// cut ends the running watch with an error.
	cut func(error)
	// held, while it is open, holds up what the watch delivers.
	held chan struct{}
	// listErr is what List returns, while it is set.
	listErr error
}

func (f *faulty) Watch(ctx context.Context, prefix string, after int64, fn func(store.Batch) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.mu.Lock()
	f.cut = cancel
	f.mu.Unlock()
	err := f.Store.Watch(ctx, prefix, after, func(b store.Batch) error {
		f.mu.Lock()
		held := f.held
		f.mu.Unlock()
		if held != nil {
			<-held
		}
		return fn(b)
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (f *faulty) List(ctx context.Context, opts store.ListOptions) (store.Page, error) {
	f.mu.Lock()
	err := f.listErr
	f.mu.Unlock()
	if err != nil {
		return store.Page{}, err
	}
	return f.Store.List(ctx, opts)
}

func (f *faulty) fail(watch, list error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listErr = list
	if watch != nil {
		f.cut(watch)
	}
}

func inFaultyBubble(t *testing.T, fn func(t *testing.T, r *rig, f *faulty)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{Store: memory.New()}
		r := newRig(t, f)
		synctest.Wait()
		fn(t, r, f)
	})
}

func TestBrokenWatchGoesOn(t *testing.T) {
	inFaultyBubble(t, func(t *testing.T, r *rig, f *faulty) {
		w := r.watch(cache.WatchOptions{AfterRevision: r.fresh()})
		one := r.put("ns/a", "", "")
		f.fail(errors.New("connection lost"), nil)
		two := r.put("ns/a", "", "v=2")
		checkTexts(t, "events", r.read(w, 2),
			fmt.Sprintf("ADDED a()#%d at %d", one, one),
			fmt.Sprintf("MODIFIED a(v=2)#%d at %d was a()#%d", two, two, one))
	})
}

func TestLostHistory(t *testing.T) {
	inFaultyBubble(t, func(t *testing.T, r *rig, f *faulty) {
		begin := r.put("ns/kept", "", "")
		r.put("ns/gone", "", "")
		r.fresh()
		kept, _, err := r.pods.Get(pods + "ns/kept")
		if err != nil {
			t.Fatal(err)
		}
		watchers := []*cache.Watcher{
			r.watch(cache.WatchOptions{AfterRevision: begin}),
			r.watch(cache.WatchOptions{AfterRevision: r.pods.Revision()}), // Has nothing to read.
			r.watch(cache.WatchOptions{AfterRevision: r.pods.Revision(), Key: pods + "ns/kept"}),
		}
		f.fail(store.ErrCompacted, errors.New("no list yet"))
		time.Sleep(20 * time.Millisecond) // The feed has waited, begun anew, and the cache can't list.
		// What is written now is lost to the watch. The cache says that it is behind, but still answers.
		r.remove("ns/gone")
		last := r.put("ns/new", "", "")
		if r.pods.Ready() {
			t.Error("the cache is ready though it has lost changes")
		}
		if _, _, err := r.pods.Get(pods + "ns/gone"); err != nil {
			t.Errorf("Get of the old state: %v", err)
		}
		f.fail(nil, nil)
		if rev := r.fresh(); rev != last {
			t.Errorf("Fresh = %d, want %d", rev, last)
		}
		checkTexts(t, "list", keys(r.list(cache.ListOptions{}).Entries), fmt.Sprintf("kept#%d", begin), fmt.Sprintf("new#%d", last))
		if again, _, _ := r.pods.Get(pods + "ns/kept"); again != kept {
			t.Error("an entry that did not change was replaced")
		}
		for i, w := range watchers {
			if events, err := w.Next(t.Context()); !errors.Is(err, store.ErrCompacted) {
				t.Errorf("watcher %d: Next = %d events, %v, want ErrCompacted", i, len(events), err)
			}
		}
		if _, err := r.pods.Watch(cache.WatchOptions{AfterRevision: begin}); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("Watch(before the loss) = %v, want ErrCompacted", err)
		}
		w := r.watch(cache.WatchOptions{AfterRevision: last})
		next := r.put("ns/new", "", "v=2")
		checkTexts(t, "events", r.read(w, 1), fmt.Sprintf("MODIFIED new(v=2)#%d at %d was new()#%d", next, next, last))
		r.checkSize()
	})
}

func TestWritesWhileListing(t *testing.T) {
	inFaultyBubble(t, func(t *testing.T, r *rig, f *faulty) {
		r.put("ns/a", "", "")
		f.fail(store.ErrCompacted, errors.New("no list yet"))
		time.Sleep(20 * time.Millisecond) // The feed watches again, the cache can't list.
		two := r.put("ns/a", "", "v=2")
		b := r.put("ns/b", "", "")
		synctest.Wait()
		f.fail(nil, nil)
		r.fresh()
		checkTexts(t, "list", keys(r.list(cache.ListOptions{}).Entries), fmt.Sprintf("a#%d", two), fmt.Sprintf("b#%d", b))
	})
}

func TestFeedBehindTheList(t *testing.T) {
	inFaultyBubble(t, func(t *testing.T, r *rig, f *faulty) {
		f.held = make(chan struct{})
		key := "/registry/jobs/ns/a"
		one, err := r.store.Create(t.Context(), key, value(pods+"ns/a", "", "v=1"), store.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // The creation comes alone.
		two, err := r.store.Update(t.Context(), key, value(pods+"ns/a", "", "v=2"), one, store.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		jobs := r.cache("/registry/jobs/") // It lists what the feed has not seen.
		w, err := jobs.Watch(cache.WatchOptions{SendInitialEvents: true})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		f.held <- struct{}{} // The creation.
		synctest.Wait()
		if e, _, err := jobs.Get(key); err != nil || e.Revision != two {
			t.Errorf("Get = %+v, %v: the cache went back from revision %d", e, err, two)
		}
		close(f.held)
		if _, err := jobs.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		three, err := r.store.Delete(t.Context(), key, two)
		if err != nil {
			t.Fatal(err)
		}
		checkTexts(t, "events", r.read(w, 2),
			fmt.Sprintf("ADDED a(v=2)#%d at %d", two, two),
			fmt.Sprintf("DELETED a(v=2)#%d at %d was a(v=2)#%d", three, three, two))
	})
}

func TestLostHistoryMakesTheIndexAnew(t *testing.T) {
	inFaultyBubble(t, func(t *testing.T, r *rig, f *faulty) {
		first := r.put("ns/kept", "n1", "")
		r.put("ns/gone", "n1", "")
		r.fresh()
		r.list(cache.ListOptions{Index: "n1"})
		f.fail(store.ErrCompacted, errors.New("no list yet"))
		time.Sleep(20 * time.Millisecond) // What is written now is lost.
		r.remove("ns/gone")
		last := r.put("ns/new", "n1", "")
		f.fail(nil, nil)
		r.fresh()
		checkTexts(t, "list", keys(r.list(cache.ListOptions{Index: "n1"}).Entries), fmt.Sprintf("kept#%d", first), fmt.Sprintf("new#%d", last))
	})
}
