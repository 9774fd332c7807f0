// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"log/slog"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/kinds/catalog"
)

// script is a backend whose lists and watches a test plays.
type script struct {
	mu      sync.Mutex
	lists   [][]runtime.Object // one per list, the last one again and again
	version int
	streams []*playedStream
	from    []string // resourceVersions that watches began at
}

type playedStream struct {
	events chan watch.Event
	ended  atomic.Bool
}

func (s *playedStream) Events() <-chan watch.Event { return s.events }
func (s *playedStream) Stop()                      { s.ended.Store(true) }

func (s *script) Do(context.Context, *Request) (*Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := s.lists[0]
	if len(s.lists) > 1 {
		s.lists = s.lists[1:]
	}
	s.version += 10
	return &Result{Items: items, ListMeta: metav1.ListMeta{ResourceVersion: fmt.Sprint(s.version)}}, nil
}

func (s *script) Watch(_ context.Context, req *Request) (Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream := &playedStream{events: make(chan watch.Event)}
	s.streams = append(s.streams, stream)
	s.from = append(s.from, req.ListOptions.ResourceVersion)
	return stream, nil
}

func (s *script) last() *playedStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[len(s.streams)-1]
}

func object(name, version, uid string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, ResourceVersion: version, UID: types.UID(uid), Labels: map[string]string{"v": version},
	}}
}

// follow runs an informer of ConfigMaps on the script and notes what its handler is told.
func follow(s *script) (f *Informer[*corev1.ConfigMap], told *[]string, set *Informers, stop func()) {
	set = NewInformers(New(s, catalog.New()), slog.New(slog.DiscardHandler))
	f = InformerFor[*corev1.ConfigMap](set)
	f.AddIndex("v", func(m *corev1.ConfigMap) []string { return []string{m.Labels["v"]} })
	told = &[]string{}
	f.Handle(Handler[*corev1.ConfigMap]{
		Add: func(m *corev1.ConfigMap) { *told = append(*told, "add "+m.Name) },
		Update: func(old, m *corev1.ConfigMap) {
			*told = append(*told, "update "+m.Name+" "+old.ResourceVersion+">"+m.ResourceVersion)
		},
		Delete: func(m *corev1.ConfigMap) { *told = append(*told, "delete "+m.Name) },
		Synced: func() { *told = append(*told, "synced") },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = set.Run(ctx) }()
	return f, told, set, func() { cancel(); <-done }
}

func names(all []*corev1.ConfigMap) []string {
	var out []string
	for _, m := range all {
		out = append(out, m.Name)
	}
	slices.Sort(out)
	return out
}

func TestInformerFollowsListAndWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{lists: [][]runtime.Object{{object("a", "1", "u1"), object("b", "2", "u2")}}}
		f, told, _, stop := follow(s)
		defer stop()
		<-f.Synced()
		synctest.Wait()
		stream := s.last()
		stream.events <- watch.Event{Type: watch.Modified, Object: object("a", "11", "u1")}
		stream.events <- watch.Event{Type: watch.Deleted, Object: object("b", "12", "u2")}
		stream.events <- watch.Event{Type: watch.Bookmark, Object: object("", "13", "")}
		synctest.Wait()
		if diff := cmp.Diff([]string{"add a", "add b", "synced", "update a 1>11", "delete b"}, *told); diff != "" {
			t.Errorf("handler (-want +got):\n%s", diff)
		}
		late := []string{}
		f.Handle(Handler[*corev1.ConfigMap]{
			Add: func(m *corev1.ConfigMap) { late = append(late, "add "+m.Name) }, Synced: func() { late = append(late, "synced") },
		})
		if diff := cmp.Diff([]string{"add a", "synced"}, late); diff != "" {
			t.Errorf("late handler (-want +got):\n%s", diff)
		}
		if got := names(f.ByIndex("v", "11")); !cmp.Equal(got, []string{"a"}) || len(f.ByIndex("v", "1")) != 0 {
			t.Errorf("index: %v at 11, %v at 1", got, names(f.ByIndex("v", "1")))
		}
		close(stream.events) // an orderly end: the watch goes on from the bookmark, without a list
		synctest.Wait()
		if diff := cmp.Diff([]string{"10", "13"}, s.from); diff != "" {
			t.Errorf("watches began at (-want +got):\n%s", diff)
		}
	})
}

func TestInformerListsAnewWhenHistoryIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{lists: [][]runtime.Object{
			{object("a", "1", "u1"), object("b", "2", "u2"), object("c", "3", "u3")},
			{object("a", "1", "u1"), object("b", "15", "other"), object("d", "16", "u4")},
		}}
		f, told, _, stop := follow(s)
		defer stop()
		<-f.Synced()
		synctest.Wait()
		*told = nil
		s.last().events <- watch.Event{Type: watch.Error, Object: &metav1.Status{Status: metav1.StatusFailure, Code: 410, Reason: metav1.StatusReasonExpired}}
		synctest.Wait()
		if diff := cmp.Diff([]string{"a", "b", "d"}, names(f.List("default"))); diff != "" {
			t.Errorf("objects (-want +got):\n%s", diff)
		}
		// b was replaced by another object of its name, c went unseen.
		if diff := cmp.Diff([]string{"update a 1>1", "delete b", "add b", "add d", "delete c"}, *told); diff != "" {
			t.Errorf("handler (-want +got):\n%s", diff)
		}
	})
}

// TestLateInformerDoesNotUndoSynced asks for an informer that never lists while the set runs.
func TestLateInformerDoesNotUndoSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{lists: [][]runtime.Object{{object("a", "1", "u1")}}}
		set := NewInformers(New(s, catalog.New()), slog.New(slog.DiscardHandler))
		InformerFor[*corev1.ConfigMap](set)
		if set.Synced() {
			t.Error("synced before it runs")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = set.Run(ctx) }()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		if !set.Synced() {
			t.Error("not synced after the first list")
		}
		late := InformerFor[*corev1.Secret](set) // the script answers with ConfigMaps, which are none
		synctest.Wait()
		select {
		case <-late.Synced():
			t.Fatal("secrets are listed")
		default:
		}
		if !set.Synced() {
			t.Error("not synced any more, for a late informer that can't list")
		}
	})
}

func TestDroppedInformerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{lists: [][]runtime.Object{{object("a", "1", "u1")}}}
		f, _, set, stop := follow(s)
		defer stop()
		<-f.Synced()
		synctest.Wait()
		Drop(set, f)
		time.Sleep(time.Minute)
		if !s.last().ended.Load() {
			t.Error("the watch of a dropped informer goes on")
		}
		if InformerFor[*corev1.ConfigMap](set) == f {
			t.Error("a dropped informer is handed out again")
		}
		synctest.Wait()
	})
}

// TestLateHandlerHearsInOrder has an object go while a new handler is told of it.
func TestLateHandlerHearsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{lists: [][]runtime.Object{{object("a", "1", "u1")}}}
		f, _, _, stop := follow(s)
		defer stop()
		<-f.Synced()
		synctest.Wait()
		hold := make(chan struct{})
		var told []string
		go f.Handle(Handler[*corev1.ConfigMap]{
			Add:    func(m *corev1.ConfigMap) { <-hold; told = append(told, "add "+m.Name) },
			Delete: func(m *corev1.ConfigMap) { told = append(told, "delete "+m.Name) },
		})
		synctest.Wait()
		s.last().events <- watch.Event{Type: watch.Deleted, Object: object("a", "11", "u1")}
		for range 1000 { // Not Wait: who waits for a lock is not at rest.
			goruntime.Gosched()
		}
		close(hold)
		synctest.Wait()
		if diff := cmp.Diff([]string{"add a", "delete a"}, told); diff != "" {
			t.Errorf("late handler (-want +got):\n%s", diff)
		}
	})
}

// notifying is a backend that tells of first objects.
type notifying struct {
	script

	firsts []func()
}

func (n *notifying) NotifyFirst(_ context.Context, _ *Request, notify func()) bool {
	n.firsts = append(n.firsts, notify)
	return true
}

// An informer of what has no objects is complete, and lists and watches again when there are some. One of a selection watches.
func TestInformerWatchesFromTheFirstObjectOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &notifying{script: script{lists: [][]runtime.Object{{}, {}, {object("a", "1", "u1")}, {}}}}
		informers := NewInformers(New(backend, catalog.New()), slog.New(slog.DiscardHandler))
		f := InformerFor[*corev1.ConfigMap](informers)
		InformerFor[*corev1.ConfigMap](informers, Selection{Namespace: "default"})
		synced := 0
		f.Handle(Handler[*corev1.ConfigMap]{Synced: func() { synced++ }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = informers.Run(ctx)
		}()
		synctest.Wait()
		if !informers.Synced() || synced != 1 || f.Len() != 0 || len(backend.firsts) != 1 || len(backend.streams) != 1 {
			t.Fatalf("before there is an object: synced %v, told %d times, %d objects, %d ask for the first, %d watches; want true, 1, 0, 1, 1",
				informers.Synced(), synced, f.Len(), len(backend.firsts), len(backend.streams))
		}
		backend.firsts[0]()
		synctest.Wait()
		if synced != 1 || f.Len() != 1 || len(backend.streams) != 2 {
			t.Errorf("once there is an object: told %d times, %d objects, %d watches; want 1, 1, 2", synced, f.Len(), len(backend.streams))
		}
		dropped := InformerOf(informers, At(informers.Client(), corev1.SchemeGroupVersion.WithResource("others"), func() *corev1.ConfigMap { return new(corev1.ConfigMap) }))
		synctest.Wait()
		Drop(informers, dropped)
		backend.firsts[1]()
		synctest.Wait()
		if len(backend.streams) != 2 {
			t.Error("an informer that was dropped before the first object watches")
		}
		cancel()
		<-ended
		backend.firsts[1]() // late
	})
}
