// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/etcd"
)

// bare decodes nothing: the tests look at keys and revisions.
func bare(key string, _ []byte, _ int64) (kinds.Object, error) {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: key}}, nil
}

// newCache runs a cache of pods on a store.
func newCache(t testing.TB, s store.Store) *cache.Cache {
	t.Helper()
	feed, err := cache.NewFeed(cache.FeedConfig{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.New(cache.Config{Feed: feed, Prefix: "/registry/pods/", Decode: bare})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- feed.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want it canceled", err)
		}
	})
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCacheOnEtcd(t *testing.T) {
	s := open(t, etcd.Config{DataDir: t.TempDir(), UnsafeNoFsync: true})
	if _, err := s.Create(t.Context(), "/registry/pods/ns/before", []byte("1"), store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	c := newCache(t, s)
	begin := c.Revision()
	w, err := c.Watch(cache.WatchOptions{AfterRevision: begin})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var last int64
	for i := range 100 {
		key := fmt.Sprintf("/registry/pods/ns/%d", i)
		if last, err = s.Create(t.Context(), key, []byte("1"), store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e, at, err := c.Get(key); err != nil || e.Revision != last || at < last {
			t.Fatalf("Get after Fresh = %d, %v, want revision %d", at, err, last)
		}
	}
	for next := begin + 1; next <= last; {
		events, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			if ev.Type != cache.Added || ev.Revision != next {
				t.Fatalf("event = %v of revision %d, want one of %d", ev.Type, ev.Revision, next)
			}
			next++
		}
	}
	// What is written outside of the feed's prefix is heard of by a progress mark.
	other, err := s.Create(t.Context(), "/other", nil, store.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if got, err := c.Fresh(ctx); err != nil || got != other || c.Revision() != other {
		t.Errorf("Fresh = %d, %v, Revision = %d, want %d", got, err, c.Revision(), other)
	}
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		s, err := etcd.Open(b.Context(), etcd.Config{DataDir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	s := open(b, etcd.Config{DataDir: b.TempDir()})
	value := make([]byte, 1024)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := s.Create(b.Context(), fmt.Sprintf("/registry/pods/ns/%d", n), value, store.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// BenchmarkWriteToWatcher measures a write until a watcher of the cache has it.
func BenchmarkWriteToWatcher(b *testing.B) {
	s := open(b, etcd.Config{DataDir: b.TempDir()})
	c := newCache(b, s)
	w, err := c.Watch(cache.WatchOptions{AfterRevision: c.Revision()})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	value := make([]byte, 1024)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := s.Create(b.Context(), fmt.Sprintf("/registry/pods/ns/%d", n), value, store.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// BenchmarkFresh measures what a linearizable read costs beside the read.
func BenchmarkFresh(b *testing.B) {
	s := open(b, etcd.Config{DataDir: b.TempDir()})
	c := newCache(b, s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Fresh(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
