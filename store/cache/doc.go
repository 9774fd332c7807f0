// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cache is the watch cache: the API server's current picture of the store, kept by one watch, from which all
// reads and all watches are served.
//
// There is one Feed per process and one Cache per storage prefix (a built-in kind, or one custom resource):
//
//	feed, err := cache.NewFeed(cache.FeedConfig{Store: s, Prefix: "/registry/", Logger: log})
//	go feed.Run(ctx)                              // one store watch for all caches
//	pods, err := cache.New(cache.Config{Feed: feed, Prefix: "/registry/pods/", Decode: ..., Attrs: ..., IndexField: "spec.nodeName"})
//	defer pods.Close()                            // it is listed once, then fed; it ends with the feed, if not before (a deleted CRD's)
//	err = pods.WaitReady(ctx)
//
//	rev, err := pods.Fresh(ctx)                   // linearizable read: after this, everything written before is in the cache
//	err = pods.WaitFor(ctx, rev)                  // resourceVersion "not older than"
//	entry, rev, err := pods.Get(key)              // store.ErrNotFound
//	page, err := pods.List(ctx, cache.ListOptions{Prefix: "/registry/pods/default/", Limit: 500, Filter: f})
//	page, err = pods.List(ctx, cache.ListOptions{Prefix: ..., From: page.Next, Revision: page.Revision, Limit: 500}) // continue
//	snap := pods.Snapshot()                       // immutable; snap.All(prefix, from) is an iterator, for streamed lists
//
//	w, err := pods.Watch(cache.WatchOptions{Prefix: "/registry/pods/default/", AfterRevision: rev, Filter: f, Bookmarks: true})
//	defer w.Close()
//	for {
//		events, err := w.Next(ctx)            // blocks for at least one event; the slice is reused by the next call
//		...                                   // errors.Is(err, store.ErrCompacted): 410 Gone; ctx's error: the end
//	}
//
//	obj, err := entry.Object()                    // decoded once per revision, shared, immutable
//	labels, fields, err := entry.Attrs()
//	data, err := entry.Encoded("json/v1", func() ([]byte, error) {...}) // made once per revision, shared, immutable
//
// A Cache is a core (core.go, log.go: state and decisions, no goroutines, locks or clock) and a driver (cache.go, fill.go,
// read.go, watch.go, feed.go). docs/design/watch.md follows one event through it.
package cache
