// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

// history is what a test wrote: after each revision, the labels of every object.
type history struct {
	states map[int64]map[string]string
	last   int64
}

// visible returns the objects of a state that a watcher sees, with their labels.
func visible(state map[string]string, opts cache.WatchOptions, label string) map[string]string {
	out := map[string]string{}
	for key, text := range state {
		inScope := strings.HasPrefix(key, opts.Prefix)
		if opts.Key != "" {
			inScope = key == opts.Key
		}
		if inScope && (label == "" || text == label) {
			out[key] = text
		}
	}
	return out
}

// TestWatchersReplayHistory lets writers change a few objects at random while watchers of all kinds come and go. Whatever a
// watcher is told must turn the state that it began with into the state at every later revision, with nothing twice.
func TestWatchersReplayHistory(t *testing.T) {
	r := newRig(t, memory.New())
	h := history{states: map[int64]map[string]string{}}
	state := map[string]string{}
	rnd := rand.New(rand.NewPCG(1, 2))
	h.last = r.fresh()
	h.states[h.last] = maps.Clone(state)
	var mu sync.Mutex // Guards h.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	watch := func(seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		for ctx.Err() == nil {
			replay(ctx, t, r, &h, &mu, rnd)
		}
	}
	for seed := range uint64(6) {
		wg.Go(func() { watch(seed) })
	}
	for range 3000 {
		name := fmt.Sprintf("ns%d/%d", rnd.IntN(2), rnd.IntN(5))
		_, exists := state[pods+name]
		mu.Lock()
		if exists && rnd.IntN(4) == 0 {
			h.last = r.remove(name)
			delete(state, pods+name)
		} else {
			text := fmt.Sprintf("l=%d", rnd.IntN(2))
			h.last = r.put(name, "", text)
			state[pods+name] = text
		}
		h.states[h.last] = maps.Clone(state)
		mu.Unlock()
	}
	cancel()
	wg.Wait()
	r.checkSize()
}

// replay runs one watcher for a while.
func replay(ctx context.Context, t *testing.T, r *rig, h *history, mu *sync.Mutex, rnd *rand.Rand) {
	opts := cache.WatchOptions{Prefix: []string{pods, pods + "ns0/", pods + "ns1/"}[rnd.IntN(3)]}
	if rnd.IntN(4) == 0 {
		opts.Key = pods + "ns0/1"
	}
	label := ""
	if rnd.IntN(2) == 0 {
		label = "l=1"
		opts.Filter = matching(label)
	}
	seen := map[string]string{}
	if rnd.IntN(2) == 0 {
		opts.SendInitialEvents, opts.MarkInitialEnd = true, true
	} else {
		mu.Lock()
		opts.AfterRevision = h.last
		seen = visible(h.states[h.last], opts, label)
		mu.Unlock()
	}
	w, err := r.pods.Watch(opts)
	if errors.Is(err, store.ErrCompacted) { // The cache has not seen the youngest writes, or not for long.
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer w.Close()
	ready := !opts.SendInitialEvents
	for range 1 + rnd.IntN(40) {
		events, err := w.Next(ctx)
		if err != nil {
			return
		}
		for _, ev := range events {
			if !see(t, seen, ev) {
				return
			}
			ready = ready || ev.InitialEnd
			if !ready {
				continue
			}
			mu.Lock()
			want := visible(h.states[ev.Revision], opts, label)
			mu.Unlock()
			if !maps.Equal(seen, want) {
				t.Errorf("%+v: after revision %d the watcher sees %v, want %v", opts, ev.Revision, seen, want)
				return
			}
		}
	}
}

// see applies an event to what a watcher has seen.
func see(t *testing.T, seen map[string]string, ev cache.Event) bool {
	if ev.Type == cache.Bookmark {
		return true
	}
	set, _, err := ev.Entry.Attrs()
	if err != nil {
		t.Error(err)
		return false
	}
	_, known := seen[ev.Entry.Key]
	if known != (ev.Type == cache.Modified || ev.Type == cache.Deleted) {
		t.Errorf("%s, but the watcher knows %v", eventText(ev), slices.Sorted(maps.Keys(seen)))
		return false
	}
	if ev.Type == cache.Deleted {
		delete(seen, ev.Entry.Key)
	} else {
		seen[ev.Entry.Key] = set.String()
	}
	return true
}
