// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

// overwrite updates one key again and again, as fast as the store goes.
type overwriter struct {
	r    *rig
	key  string
	data []byte
	rev  int64
}

func newOverwriter(r *rig, name, node string) *overwriter {
	o := &overwriter{r: r, key: pods + name, data: value(pods+name, node, "app=web")}
	o.rev = r.put(name, node, "app=web")
	return o
}

func (o *overwriter) write(b *testing.B) {
	rev, err := o.r.store.Update(context.Background(), o.key, o.data, o.rev, store.WriteOptions{})
	if err != nil {
		b.Fatal(err)
	}
	o.rev = rev
}

// BenchmarkFanOut measures one write until the last of n watchers has its event.
func BenchmarkFanOut(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) { fanOut(b, watchers, cache.WatchOptions{}) })
	}
	b.Run("watchers=1000/of_other_nodes", func(b *testing.B) { fanOut(b, 1000, cache.WatchOptions{Index: "other"}) })
}

func fanOut(b *testing.B, watchers int, opts cache.WatchOptions) {
	r := newRig(b, memory.New())
	o := newOverwriter(r, "ns/a", "n1")
	opts.AfterRevision = r.fresh()
	var pending atomic.Int64
	all := make(chan struct{}, 1)
	run := func(opts cache.WatchOptions) {
		w := r.watch(opts)
		r.run(func(ctx context.Context) error {
			for {
				events, err := w.Next(ctx)
				if err != nil {
					return err
				}
				if pending.Add(-int64(len(events))) == 0 {
					all <- struct{}{}
				}
			}
		})
	}
	expected := int64(watchers)
	if opts.Index != "" { // These don't see it; one other does.
		expected = 1
		run(cache.WatchOptions{AfterRevision: opts.AfterRevision, Index: "n1"})
	}
	for range watchers {
		run(opts)
	}
	b.ReportAllocs()
	for b.Loop() {
		pending.Store(expected)
		o.write(b)
		<-all
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(expected), "ns/delivery")
}

// filled is a rig with n pods over ten nodes.
func filled(b *testing.B, n int) *rig {
	r := newRig(b, memory.New())
	for i := range n {
		r.put(fmt.Sprintf("ns%d/pod-%d", i%10, i), fmt.Sprintf("n%d", i%10), fmt.Sprintf("app=a%d", i%10))
	}
	r.fresh()
	return r
}

func BenchmarkList10k(b *testing.B) {
	r := filled(b, 10_000)
	for name, opts := range map[string]cache.ListOptions{
		"all": {}, "namespace": {Prefix: pods + "ns3/"}, "page of 500": {Limit: 500}, "selector of a tenth": {Filter: matching("app=a3")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if page := r.list(opts); len(page.Entries) == 0 {
					b.Fatal("nothing")
				}
			}
		})
	}
}

func BenchmarkListAfterWrite10k(b *testing.B) {
	r := filled(b, 10_000)
	o := newOverwriter(r, "ns3/x", "n1")
	b.ReportAllocs()
	for b.Loop() {
		o.write(b)
		if err := r.pods.WaitFor(b.Context(), o.rev); err != nil {
			b.Fatal(err)
		}
		r.list(cache.ListOptions{Prefix: pods + "ns3/"})
	}
}

func BenchmarkFreshGet(b *testing.B) {
	r := filled(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		r.fresh()
		if _, _, err := r.pods.Get(pods + "ns3/pod-3"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObject(b *testing.B) {
	r := filled(b, 1)
	e := r.get("ns0/pod-0")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Object(); err != nil {
			b.Fatal(err)
		}
	}
}
