// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"kogge.dev/kogge/internal/invariant"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

// plain tells whether an entry has its value as it came: then all who ask share it.
func plain(e *cache.Entry) bool {
	one, other := e.Value(), e.Value()
	return &one[0] == &other[0]
}

// packing returns a rig that packs values, of a store that begin has written to.
func packing(t *testing.T, begin func(r *rig)) *rig {
	t.Helper()
	r := &rig{t: t, store: memory.New()}
	var err error
	if r.feed, err = cache.NewFeed(cache.FeedConfig{Store: r.store}); err != nil {
		t.Fatal(err)
	}
	r.run(r.feed.Run)
	begin(r)
	if r.pods, err = cache.New(cache.Config{Feed: r.feed, Prefix: pods, Decode: r.decode, Attrs: attrs, Pack: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.pods.Close)
	if err := r.pods.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// Where values are packed, they are soon after they came, those that are history too; readers find them as they were stored.
func TestValuesArePacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long, first := strings.Repeat("n", 2000), int64(0)
		r := packing(t, func(r *rig) { first = r.put("ns/listed", long, "") })
		time.Sleep(2 * time.Second)
		r.put("ns/changed", long, "")
		r.put("ns/changed", long+"2", "")
		r.put("ns/short", "n1", "")
		r.put("ns/deleted", long, "")
		r.remove("ns/deleted")
		r.fresh()
		listed, changed := r.get("ns/listed"), r.get("ns/changed")
		if plain(listed) || !plain(changed) {
			t.Fatalf("listed two seconds ago: plain %v, just come: plain %v; want false and true", plain(listed), plain(changed))
		}
		time.Sleep(2 * time.Second)
		if plain(changed) || !plain(r.get("ns/short")) {
			t.Errorf("long: plain %v, short: plain %v; want false and true", plain(changed), plain(r.get("ns/short")))
		}
		for range 2 { // The second time values have been put together.
			if want := value(pods+"ns/changed", long+"2", ""); !bytes.Equal(changed.Value(), want) {
				t.Errorf("packed value = %.80s, want %.80s", changed.Value(), want)
			}
			time.Sleep(time.Minute)
		}
		object(t, changed)
		var huge strings.Builder
		for i := range 100_000 { // further than repetitions are looked for
			fmt.Fprintf(&huge, "%x,", i*i)
		}
		r.put("ns/huge", huge.String(), "")
		r.fresh()
		time.Sleep(2 * time.Second)
		if e := r.get("ns/huge"); plain(e) || !bytes.Equal(e.Value(), value(pods+"ns/huge", huge.String(), "")) {
			t.Errorf("a packed value of %d bytes: plain %v, and %d bytes when it is opened", huge.Len(), plain(e), len(e.Value()))
		}
		w := r.watch(cache.WatchOptions{AfterRevision: first})
		seen := 0
		for seen < 5 {
			events, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				seen++
				if strings.Contains(ev.Entry.Key, "short") {
					continue
				}
				if plain(ev.Entry) || ev.Prev != nil && plain(ev.Prev) {
					t.Errorf("%s is not packed in the history", eventText(ev))
				}
			}
		}
	})
}

// Where values are packed, what is history is soon forgotten: a watch can begin a few changes back, however old, and no further.
func TestPackedHistoryIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := packing(t, func(*rig) {})
		var revisions []int64
		for i := range 100 {
			if i == 50 {
				time.Sleep(10 * time.Second)
			}
			revisions = append(revisions, r.put("ns/changed", "n", ""))
		}
		r.fresh()
		first, late := revisions[0], revisions[len(revisions)-10]
		r.watch(cache.WatchOptions{AfterRevision: first}).Close()
		middle := revisions[60]
		r.watch(cache.WatchOptions{AfterRevision: middle}).Close()
		time.Sleep(78 * time.Second)
		for which, revision := range map[string]int64{"first": first, "sixtieth": middle} {
			if _, err := r.pods.Watch(cache.WatchOptions{AfterRevision: revision}); !errors.Is(err, store.ErrCompacted) {
				t.Errorf("watch after the %s change, more than a minute ago: %v, want %v", which, err, store.ErrCompacted)
			}
		}
		w := r.watch(cache.WatchOptions{AfterRevision: late})
		events, err := w.Next(t.Context())
		if err != nil || len(events) != 9 {
			t.Errorf("watch from ten changes back: %d events, %v; want 9", len(events), err)
		}
	})
}

// Where values are packed, an object is found again while somebody holds it, and decoded anew afterwards.
func TestObjectsOfPackedValuesAreNotRemembered(t *testing.T) {
	for _, pack := range []bool{true, false} {
		r := &rig{t: t, store: memory.New()}
		var err error
		if r.feed, err = cache.NewFeed(cache.FeedConfig{Store: r.store}); err != nil {
			t.Fatal(err)
		}
		r.run(r.feed.Run)
		if r.pods, err = cache.New(cache.Config{Feed: r.feed, Prefix: pods, Decode: r.decode, Attrs: attrs, Pack: pack}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.pods.Close)
		r.put("ns/a", "n", "")
		r.fresh()
		e := r.get("ns/a")
		first := object(t, e)
		if again := object(t, e); again != first {
			t.Errorf("packed %v: an object that is held is decoded again", pack)
		}
		runtime.KeepAlive(first)
		runtime.GC()
		runtime.GC()
		before := r.decoded.Load()
		object(t, e)
		if again := r.decoded.Load() > before; again != pack && !invariant.Enabled { // which decodes again
			t.Errorf("packed %v: an object that nobody holds is decoded again: %v", pack, again)
		}
	}
}

// Where values are packed, encodings are shared by those who ask soon after a change, and not kept for longer.
func TestEncodingsOfPackedValuesAreNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := packing(t, func(*rig) {})
		r.put("ns/a", strings.Repeat("n", 2000), "")
		r.fresh()
		made := 0
		encode := func() weak.Pointer[byte] {
			t.Helper()
			data, err := r.get("ns/a").Encoded("json", func() ([]byte, error) { made++; return make([]byte, 4<<10), nil })
			if err != nil {
				t.Fatal(err)
			}
			return weak.Make(&data[0])
		}
		encode()
		first := encode()
		if made != 1 && !invariant.Enabled { // which encodes again
			t.Errorf("encoded %d times at once, want once", made)
		}
		time.Sleep(2 * time.Second)
		runtime.GC()
		if first.Value() != nil {
			t.Error("the encoding is kept when the value is packed")
		}
		for range 2 {
			before := made
			encode()
			if made != before+1 {
				t.Errorf("encoded %d times once the value is packed, want once each time", made-before)
			}
		}
	})
}

// What was derived of a value that is packed is forgotten with it, and remembered again for those who ask later.
func TestAttributesOfPackedValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := packing(t, func(*rig) {})
		r.put("ns/a", strings.Repeat("n", 2000), "a=b")
		r.fresh()
		ask := func() (decoded int64) {
			t.Helper()
			before := r.decoded.Load()
			if labels, _, err := r.get("ns/a").Attrs(); err != nil || labels["a"] != "b" {
				t.Fatalf("labels are %v, %v", labels, err)
			}
			return r.decoded.Load() - before
		}
		ask()
		if n := ask(); n != 0 {
			t.Errorf("asked again at once: decoded %d times, want none", n)
		}
		held := object(t, r.get("ns/a"))
		time.Sleep(2 * time.Second)
		if n := ask(); n != 1 {
			t.Errorf("asked once the value is packed: decoded %d times, want once", n)
		}
		if n := ask(); n != 0 {
			t.Errorf("asked again then: decoded %d times, want none", n)
		}
		runtime.KeepAlive(held)
	})
}
