// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

const pods = "/registry/pods/"

// rig is a store with a feed and a cache of pods. Values are JSON pods.
type rig struct {
	t     testing.TB
	store store.Store
	feed  *cache.Feed
	pods  *cache.Cache
	// decoded counts calls of the decoder.
	decoded atomic.Int64
}

// newRig makes a running cache over s.
func newRig(t testing.TB, s store.Store) *rig {
	t.Helper()
	r := &rig{t: t, store: s}
	feed, err := cache.NewFeed(cache.FeedConfig{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	r.feed = feed
	r.run(feed.Run)
	r.pods = r.cache(pods)
	return r
}

// cache runs a cache of a prefix and waits until it is ready.
func (r *rig) cache(prefix string) *cache.Cache {
	r.t.Helper()
	c, err := cache.New(cache.Config{Feed: r.feed, Prefix: prefix, Decode: r.decode, Attrs: attrs, IndexField: "spec.nodeName"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	if err := c.WaitReady(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// run runs something until the end of the test.
func (r *rig) run(fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run = %v, want it canceled", err)
		}
	})
}

func (r *rig) decode(key string, value []byte, revision int64) (kinds.Object, error) {
	r.decoded.Add(1)
	pod := new(corev1.Pod)
	if err := json.Unmarshal(value, pod); err != nil {
		return nil, err
	}
	pod.ResourceVersion = strconv.FormatInt(revision, 10)
	return pod, nil
}

func attrs(obj kinds.Object) (labels.Set, fields.Set) {
	pod := obj.(*corev1.Pod)
	return pod.Labels, fields.Set{"metadata.name": pod.Name, "spec.nodeName": pod.Spec.NodeName}
}

// value is a stored pod. The labels are written "a=b,c=d".
func value(key, node, labelText string) []byte {
	pod := new(corev1.Pod)
	parts := strings.Split(strings.TrimPrefix(key, pods), "/")
	pod.Namespace, pod.Name = parts[0], parts[len(parts)-1]
	pod.Spec.NodeName = node
	if labelText != "" {
		pod.Labels, _ = labels.ConvertSelectorToLabelsMap(labelText)
	}
	data, err := json.Marshal(pod)
	if err != nil {
		panic(err)
	}
	return data
}

// put creates or updates "namespace/name" and returns the revision.
func (r *rig) put(name, node, labelText string) int64 {
	r.t.Helper()
	var expected int64
	current, _, err := r.store.Get(r.t.Context(), pods+name)
	if err == nil {
		expected = current.ModRevision
	}
	rev, err := r.store.Update(r.t.Context(), pods+name, value(pods+name, node, labelText), expected, store.WriteOptions{})
	if err != nil {
		r.t.Fatalf("put %s: %v", name, err)
	}
	return rev
}

func (r *rig) remove(name string) int64 {
	r.t.Helper()
	current, _, err := r.store.Get(r.t.Context(), pods+name)
	if err != nil {
		r.t.Fatal(err)
	}
	rev, err := r.store.Delete(r.t.Context(), pods+name, current.ModRevision)
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

// fresh brings the cache to the store's present.
func (r *rig) fresh() int64 {
	r.t.Helper()
	rev, err := r.pods.Fresh(r.t.Context())
	if err != nil {
		r.t.Fatalf("Fresh: %v", err)
	}
	return rev
}

func (r *rig) watch(opts cache.WatchOptions) *cache.Watcher {
	r.t.Helper()
	w, err := r.pods.Watch(opts)
	if err != nil {
		r.t.Fatalf("Watch(%+v): %v", opts, err)
	}
	r.t.Cleanup(w.Close)
	return w
}

// read returns the next n events as texts.
func (r *rig) read(w *cache.Watcher, n int) []string {
	r.t.Helper()
	out := []string{}
	for len(out) < n {
		events, err := w.Next(r.t.Context())
		if err != nil {
			r.t.Fatalf("Next after %q: %v", out, err)
		}
		for _, ev := range events {
			out = append(out, eventText(ev))
		}
	}
	return out
}

// checkSize compares the cache's size with what a list says.
func (r *rig) checkSize() {
	r.t.Helper()
	r.fresh()
	page, err := r.pods.List(r.t.Context(), cache.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	want := 0
	for _, e := range page.Entries {
		want += len(e.Value())
	}
	if objects, bytes := r.pods.Size(); objects != len(page.Entries) || bytes != int64(want) || want == 0 {
		r.t.Errorf("size is %d objects with %d bytes, want %d with %d", objects, bytes, len(page.Entries), want)
	}
}

func eventText(ev cache.Event) string {
	if ev.Type == cache.Bookmark {
		if ev.InitialEnd {
			return fmt.Sprintf("BOOKMARK end %d", ev.Revision)
		}
		return fmt.Sprintf("BOOKMARK %d", ev.Revision)
	}
	text := fmt.Sprintf("%s %s at %d", ev.Type, entryText(ev.Entry), ev.Revision)
	if ev.Prev != nil {
		text += " was " + entryText(ev.Prev)
	}
	return text
}

func entryText(e *cache.Entry) string {
	obj, err := e.Object()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s(%s)#%s", obj.GetName(), labels.Set(obj.GetLabels()), obj.GetResourceVersion())
}

// matching filters by a label selector.
func matching(selector string) func(*cache.Entry) bool {
	parsed := labels.SelectorFromSet(labels.Set{})
	if selector != "" {
		var err error
		if parsed, err = labels.Parse(selector); err != nil {
			panic(err)
		}
	}
	return func(e *cache.Entry) bool {
		set, _, err := e.Attrs()
		return err != nil || parsed.Matches(set)
	}
}

// inBubble runs a test on a memory store on virtual time.
func inBubble(t *testing.T, fn func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, newRig(t, memory.New())) })
}
