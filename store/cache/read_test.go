// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

// keys returns the entries' names with the revisions of their states.
func keys(entries []*cache.Entry) []string {
	out := []string{}
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%s#%d", e.Name(), e.Revision))
	}
	return out
}

func (r *rig) list(opts cache.ListOptions) cache.Page {
	r.t.Helper()
	page, err := r.pods.List(r.t.Context(), opts)
	if err != nil {
		r.t.Fatalf("List(%+v): %v", opts, err)
	}
	return page
}

func TestGet(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		rev := r.put("ns/a", "", "v=1")
		r.fresh()
		e, at, err := r.pods.Get(pods + "ns/a")
		if err != nil || at != rev || entryText(e) != fmt.Sprintf("a(v=1)#%d", rev) {
			t.Errorf("Get = %v, %d, %v", e, at, err)
		}
		if _, at, err := r.pods.Get(pods + "ns/b"); !errors.Is(err, store.ErrNotFound) || at != rev {
			t.Errorf("Get(absent) = %d, %v, want %d, ErrNotFound", at, err, rev)
		}
	})
}

func TestFreshReadsOwnWrites(t *testing.T) {
	r := newRig(t, memory.New())
	for i := range 200 {
		rev := r.put("ns/a", "", fmt.Sprintf("v=%d", i))
		r.fresh()
		if e, _, err := r.pods.Get(pods + "ns/a"); err != nil || e.Revision != rev {
			t.Fatalf("Get after Fresh = revision %d, %v, want %d", e.Revision, err, rev)
		}
	}
}

func TestFreshOfQuietKind(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		// Writes of other kinds, and writes outside of the registry, which only a progress mark tells of.
		for _, key := range []string{"/registry/jobs/ns/a", "/other/a"} {
			rev, err := r.store.Create(t.Context(), key, []byte("x"), store.WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if got := r.fresh(); got != rev || r.pods.Revision() != rev {
				t.Errorf("Fresh = %d, Revision = %d, want %d", got, r.pods.Revision(), rev)
			}
			if took := time.Since(begin); took > 10*time.Millisecond {
				t.Errorf("Fresh after a write of %s took %v", key, took)
			}
		}
	})
}

func TestListPages(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var want []string
		for i := range 10 {
			rev := r.put(fmt.Sprintf("ns/%d", i), "", fmt.Sprintf("even=%t", i%2 == 0))
			want = append(want, fmt.Sprintf("%d#%d", i, rev))
		}
		r.put("other/x", "", "")
		rev := r.fresh()
		opts := cache.ListOptions{Prefix: pods + "ns/", Limit: 4}
		var got []string
		for _, remaining := range []int64{6, 2, 0} {
			page := r.list(opts)
			if page.Revision != rev || page.Remaining != remaining || (page.Next == "") != (remaining == 0) {
				t.Errorf("List(%+v) = revision %d, remaining %d, next %q, want %d, %d", opts, page.Revision, page.Remaining, page.Next, rev, remaining)
			}
			got = append(got, keys(page.Entries)...)
			opts.From, opts.Revision = page.Next, page.Revision
			// Changes in between don't show.
			r.put("ns/9", "", fmt.Sprintf("r=%d", remaining))
			r.put(fmt.Sprintf("ns/4%d", remaining), "", "")
			r.fresh()
		}
		checkTexts(t, "entries", got, want...)

		filtered := r.list(cache.ListOptions{Filter: matching("even=true"), Limit: 2})
		checkTexts(t, "filtered", keys(filtered.Entries), want[0], want[2])
		if filtered.Remaining != -1 || filtered.Next == "" {
			t.Errorf("filtered page: remaining %d, next %q, want -1 and a key", filtered.Remaining, filtered.Next)
		}
	})
}

func TestListAtPastRevisions(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		states := map[int64][]string{}
		note := func(rev int64) {
			r.fresh()
			states[rev] = keys(r.list(cache.ListOptions{}).Entries)
		}
		for i := range 30 {
			note(r.put(fmt.Sprintf("ns/%d", i%7), "", fmt.Sprintf("v=%d", i)))
			if i%3 == 0 {
				note(r.remove(fmt.Sprintf("ns/%d", i%7)))
			}
		}
		check := func(when string) {
			for rev, want := range states {
				page := r.list(cache.ListOptions{Revision: rev})
				checkTexts(t, fmt.Sprintf("%s: list at %d", when, rev), keys(page.Entries), want...)
				if page.Revision != rev {
					t.Errorf("List(at %d) = revision %d", rev, page.Revision)
				}
			}
		}
		check("from the log")
		// Let the log forget them: the store knows them still.
		time.Sleep(2 * time.Minute)
		for range 200 {
			r.put("zz/a", "", "")
		}
		r.fresh()
		time.Sleep(3 * time.Minute)
		r.put("zz/a", "", "")
		r.fresh()
		check("from the store")
		page := r.list(cache.ListOptions{Revision: 30, Limit: 2, Prefix: pods + "ns/"})
		if len(page.Entries) != 2 || page.Next == "" || page.Remaining <= 0 {
			t.Errorf("a page from the store: %d entries, next %q, remaining %d", len(page.Entries), page.Next, page.Remaining)
		}
		if err := r.store.Compact(t.Context(), r.fresh()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.pods.List(t.Context(), cache.ListOptions{Revision: 3}); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("List(compacted) = %v, want ErrCompacted", err)
		}
	})
}

// TestPagesEndWithTheirRevision: a token of a kind that nothing changes ends when the store is compacted, though the cache knows
// what was.
func TestPagesEndWithTheirRevision(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.put("ns/a", "", "v=1")
		r.put("ns/b", "", "v=1")
		r.fresh()
		first := r.list(cache.ListOptions{Limit: 1})
		then := cache.ListOptions{From: first.Next, Revision: first.Revision}
		later, err := r.store.Create(t.Context(), "/registry/jobs/ns/a", []byte("x"), store.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := keys(r.list(then).Entries); len(got) != 1 {
			t.Errorf("the second page holds %q", got)
		}
		if err := r.store.Compact(t.Context(), later); err != nil {
			t.Fatal(err)
		}
		if page, err := r.pods.List(t.Context(), then); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("the second page after a compaction holds %q, %v, want ErrCompacted", keys(page.Entries), err)
		}
	})
}

func TestSnapshotsStayWhatTheyAre(t *testing.T) {
	r := newRig(t, memory.New())
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, err := r.pods.Snapshot()
				if err != nil {
					t.Error(err)
					return
				}
				first, second := 0, 0
				for e := range s.All("", "") {
					first++
					if e.Revision > s.Revision {
						t.Errorf("entry of revision %d in a snapshot of %d", e.Revision, s.Revision)
					}
				}
				for range s.All("", "") {
					second++
				}
				if first != second || first != s.Len() {
					t.Errorf("a snapshot has %d, then %d entries, and says %d", first, second, s.Len())
				}
				runtime.Gosched()
			}
		})
	}
	for i := range 2000 {
		if i%3 == 2 {
			r.remove(fmt.Sprintf("ns/%d", i-1))
		} else {
			r.put(fmt.Sprintf("ns/%d", i), "", "")
		}
	}
	close(stop)
	wg.Wait()
}

func TestCacheStartsFromWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		before := &rig{t: t, store: s}
		for i := range 2500 { // More than two pages.
			before.put(fmt.Sprintf("ns/%04d", i), "", "")
		}
		r := newRig(t, s)
		if page := r.list(cache.ListOptions{}); len(page.Entries) != 2500 || page.Revision != 2501 {
			t.Errorf("%d entries at revision %d, want 2500 at 2501", len(page.Entries), page.Revision)
		}
	})
}

func TestOldChangesAreForgottenThoughNoneFollows(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		const changes = 1000
		for i := range changes {
			r.put(fmt.Sprintf("ns/%d", i%10), "", "")
		}
		r.list(cache.ListOptions{})
		from := func(revision int64) error {
			w, err := r.pods.Watch(cache.WatchOptions{AfterRevision: revision})
			if err == nil {
				w.Close()
			}
			return err
		}
		time.Sleep(30 * time.Second)
		if err := from(changes / 2); err != nil {
			t.Errorf("Watch from the middle of young changes = %v", err)
		}
		time.Sleep(3 * time.Minute)
		if err := from(changes / 2); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("Watch from the middle of old changes = %v, want ErrCompacted", err)
		}
		if err := from(changes - 100); err != nil {
			t.Errorf("Watch from among the last changes, which stay = %v", err)
		}
	})
}

func TestListByIndexFindsWhatTheFilterFinds(t *testing.T) {
	r := newRig(t, memory.New())
	random := rand.New(rand.NewPCG(1, 2))
	nodes := []string{"", "n1", "n2", "n22"}
	for step := range 400 {
		name := fmt.Sprintf("ns%d/pod-%d", random.IntN(2), random.IntN(20))
		if _, _, err := r.store.Get(t.Context(), pods+name); err == nil && random.IntN(4) == 0 {
			r.remove(name)
		} else {
			r.put(name, nodes[random.IntN(len(nodes))], "")
		}
		if step%10 != 0 {
			continue
		}
		r.fresh()
		for _, node := range nodes[1:] {
			for _, prefix := range []string{"", pods + "ns1/"} {
				opts := cache.ListOptions{Prefix: prefix, Filter: func(e *cache.Entry) bool {
					_, set, err := e.Attrs()
					return err == nil && set["spec.nodeName"] == node
				}}
				want := r.list(opts)
				opts.Index, opts.Filter = node, nil
				got := r.list(opts)
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b *cache.Entry) bool { return a == b })); diff != "" {
					t.Fatalf("step %d, node %s below %q: (-filter +index)\n%s", step, node, prefix, diff)
				}
			}
		}
	}
}

func TestListByIndexDecodesNoOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for i := range 50 {
			r.put(fmt.Sprintf("ns/p%02d", i), fmt.Sprintf("n%d", i), "")
		}
		r.fresh()
		r.list(cache.ListOptions{Index: "n7"}) // the first makes the index
		before := r.decoded.Load()
		if got := keys(r.list(cache.ListOptions{Index: "n8"}).Entries); len(got) != 1 {
			t.Errorf("List = %v, want one pod", got)
		}
		if more := r.decoded.Load() - before; more != 0 {
			t.Errorf("the second list decoded %d pods", more)
		}
	})
}

// Who asks an empty cache is called once, with the first object or when the cache ends.
func TestNotifyFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory.New())
		feed, err := cache.NewFeed(cache.FeedConfig{Store: r.store})
		if err != nil {
			t.Fatal(err)
		}
		c, err := cache.New(cache.Config{Feed: feed, Prefix: "/registry/others/", Decode: r.decode})
		if err != nil {
			t.Fatal(err)
		}
		notified := 0
		notify := func() { notified++ }
		if c.NotifyFirst(notify) {
			t.Error("a cache that was not filled is empty")
		}
		r.run(feed.Run)
		synctest.Wait()
		if !c.NotifyFirst(notify) || !r.pods.NotifyFirst(notify) {
			t.Fatal("caches without objects are not empty")
		}
		r.put("ns/a", "n", "")
		r.put("ns/b", "n", "")
		synctest.Wait()
		if notified != 1 || r.pods.NotifyFirst(notify) {
			t.Errorf("after the first objects: notified %d times, want once, and not empty", notified)
		}
		c.Close()
		if notified != 2 || c.NotifyFirst(notify) {
			t.Errorf("after the end of the other one: notified %d times, want twice, and not empty", notified)
		}
	})
}

// TestVersionChangesWithTheContent tells changes of a cache's own objects, and no others.
func TestVersionChangesWithTheContent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		seen := map[uint64]string{}
		for _, step := range []struct {
			name    string
			do      func()
			changes bool
		}{
			{"at first", func() {}, true},
			{"after nothing", func() {}, false},
			{"after a creation", func() { r.put("ns/a", "n1", "") }, true},
			{"after an update", func() { r.put("ns/a", "n2", "") }, true},
			{"after a change of another resource", func() {
				if _, err := r.store.Update(t.Context(), "/registry/others/a", []byte("x"), 0, store.WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}, false},
			{"after a deletion", func() { r.remove("ns/a") }, true},
		} {
			step.do()
			r.fresh()
			version, err := r.pods.Version()
			if err != nil {
				t.Fatal(err)
			}
			if before, known := seen[version]; known == step.changes {
				t.Errorf("the version %s is %d, known: %v (%s), want %v", step.name, version, known, before, !step.changes)
			}
			seen[version] = step.name
		}
	})
}
