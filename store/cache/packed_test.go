// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

// plain tells whether an entry has its value as it came: then all who ask share it.
func plain(e *cache.Entry) bool {
	one, other := e.Value(), e.Value()
	return &one[0] == &other[0]
}

// Where values are packed, they are a minute after they came, those that are history too; readers find them as they were stored.
func TestValuesArePacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, store: memory.New()}
		var err error
		if r.feed, err = cache.NewFeed(cache.FeedConfig{Store: r.store}); err != nil {
			t.Fatal(err)
		}
		r.run(r.feed.Run)
		long := strings.Repeat("n", 2000)
		first := r.put("ns/listed", long, "")
		if r.pods, err = cache.New(cache.Config{Feed: r.feed, Prefix: pods, Decode: r.decode, Attrs: attrs, Pack: true}); err != nil {
			t.Fatal(err)
		}
		r.run(r.pods.Run)
		if err := r.pods.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		r.put("ns/changed", long, "")
		r.put("ns/changed", long+"2", "")
		r.put("ns/short", "n1", "")
		r.put("ns/deleted", long, "")
		r.remove("ns/deleted")
		r.fresh()
		listed, changed := r.get("ns/listed"), r.get("ns/changed")
		if plain(listed) || !plain(changed) {
			t.Fatalf("listed two minutes ago: plain %v, just come: plain %v; want false and true", plain(listed), plain(changed))
		}
		time.Sleep(2 * time.Minute)
		if plain(changed) || !plain(r.get("ns/short")) {
			t.Errorf("long: plain %v, short: plain %v; want false and true", plain(changed), plain(r.get("ns/short")))
		}
		if want := value(pods+"ns/changed", long+"2", ""); !bytes.Equal(changed.Value(), want) {
			t.Errorf("packed value = %.80s, want %.80s", changed.Value(), want)
		}
		object(t, changed)
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
