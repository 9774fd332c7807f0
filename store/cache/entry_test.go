// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/internal/invariant"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
	"kogge.dev/kogge/store/memory"
)

func (r *rig) get(name string) *cache.Entry {
	r.t.Helper()
	e, _, err := r.pods.Get(pods + name)
	if err != nil {
		r.t.Fatalf("Get(%s): %v", name, err)
	}
	return e
}

func object(t *testing.T, e *cache.Entry) kinds.Object {
	t.Helper()
	obj, err := e.Object()
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestObjectIsDecodedOnce(t *testing.T) {
	r := newRig(t, memory.New())
	r.put("ns/a", "", "")
	r.fresh()
	e := r.get("ns/a")
	var wg sync.WaitGroup
	got := make([]kinds.Object, 16)
	for i := range got {
		wg.Go(func() { got[i], _ = e.Object() })
	}
	wg.Wait()
	for _, obj := range got {
		if obj != got[0] {
			t.Error("two readers have two objects")
		}
	}
	if n := r.decoded.Load(); n != 1 && !invariant.Enabled { // Checks decode again.
		t.Errorf("%d decodings, want 1", n)
	}
}

func TestUndecodableObject(t *testing.T) {
	r := newRig(t, memory.New())
	if _, err := r.store.Create(t.Context(), pods+"ns/bad", []byte("?"), store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.fresh()
	w := r.watch(cache.WatchOptions{SendInitialEvents: true, Index: "n1"})
	r.put("ns/good", "n1", "")
	r.fresh()
	if _, err := r.get("ns/bad").Object(); err == nil || !strings.Contains(err.Error(), pods+"ns/bad") {
		t.Errorf("Object = %v, want an error that names the key", err)
	}
	r.read(w, 2)
}

// smallRig is a rig whose feed remembers next to nothing.
func smallRig(t *testing.T, budget int64) *rig {
	t.Helper()
	r := &rig{t: t, store: memory.New()}
	var err error
	if r.feed, err = cache.NewFeed(cache.FeedConfig{Store: r.store, Budget: budget}); err != nil {
		t.Fatal(err)
	}
	r.run(r.feed.Run)
	r.pods = r.cache(pods)
	return r
}

func TestObjectsBeyondTheBudgetAreForgotten(t *testing.T) {
	const n = 100
	r := smallRig(t, 8<<10)
	for i := range n {
		r.put(fmt.Sprintf("ns/%d", i), "", "")
	}
	r.fresh()
	held := object(t, r.get("ns/0"))
	first := weak.Make(object(t, r.get("ns/1")).(*corev1.Pod))
	for i := range n {
		object(t, r.get(fmt.Sprintf("ns/%d", i)))
	}
	before := r.decoded.Load()
	runtime.GC()
	runtime.GC()
	if first.Value() != nil {
		t.Error("an object that nobody holds is still there")
	}
	if again := object(t, r.get("ns/0")); again != held || (r.decoded.Load() != before && !invariant.Enabled) {
		t.Error("an object that is still held was decoded again")
	}
	object(t, r.get("ns/1"))
	if r.decoded.Load() != before+1 && !invariant.Enabled {
		t.Errorf("%d decodings, want %d", r.decoded.Load(), before+1)
	}
	runtime.KeepAlive(held)
}

// What nobody reads for minutes is forgotten, however much room there is.
func TestIdleObjectsAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		const n = 1000
		for i := range n {
			r.put(fmt.Sprintf("ns/%d", i), "", "")
		}
		r.fresh()
		busy := r.get("ns/0")
		for i := range n {
			object(t, r.get(fmt.Sprintf("ns/%d", i)))
		}
		idle := weak.Make(object(t, r.get("ns/1")).(*corev1.Pod))
		text, err := r.get("ns/1").Encoded("text", func() ([]byte, error) { return make([]byte, 1000), nil })
		if err != nil {
			t.Fatal(err)
		}
		encoding := weak.Make(&text[0])
		for range 5 {
			time.Sleep(time.Minute)
			object(t, busy)
		}
		before := r.decoded.Load()
		runtime.GC()
		runtime.GC()
		if idle.Value() != nil {
			t.Error("an object that nobody has read for minutes is still there")
		}
		if encoding.Value() != nil {
			t.Error("an encoding that nobody has read for minutes is still there")
		}
		object(t, busy)
		if r.decoded.Load() != before && !invariant.Enabled {
			t.Error("an object that is read every minute was decoded again")
		}
		if list, err := r.pods.List(t.Context(), cache.ListOptions{Prefix: pods, Filter: matching("a=b")}); err != nil || len(list.Entries) != 0 {
			t.Fatal(list, err)
		}
		time.Sleep(10 * time.Minute)
		before = r.decoded.Load()
		if _, err := r.pods.List(t.Context(), cache.ListOptions{Prefix: pods, Filter: matching("a=b")}); err != nil {
			t.Fatal(err)
		}
		if r.decoded.Load() != before {
			t.Errorf("%d objects were decoded for a selector that was asked before", r.decoded.Load()-before)
		}
	})
}

func TestEncodingIsMadeOnce(t *testing.T) {
	r := newRig(t, memory.New())
	r.put("ns/a", "", "")
	r.fresh()
	e := r.get("ns/a")
	made := 0
	encode := func(text string) func() ([]byte, error) {
		return func() ([]byte, error) {
			made++
			if _, err := e.Object(); err != nil { // An encoder may ask for the object.
				return nil, err
			}
			return []byte(text), nil
		}
	}
	for range 3 {
		for _, format := range []string{"json", "cbor"} {
			if got, err := e.Encoded(format, encode(format)); err != nil || string(got) != format {
				t.Errorf("Encoded(%s) = %s, %v", format, got, err)
			}
		}
	}
	if made != 2 && !invariant.Enabled { // Checks encode again.
		t.Errorf("%d encodings were made, want 2", made)
	}
	wrong := errors.New("wrong")
	if _, err := e.Encoded("yaml", func() ([]byte, error) { return nil, wrong }); !errors.Is(err, wrong) {
		t.Errorf("Encoded = %v, want the encoder's error", err)
	}
	if got, err := e.Encoded("yaml", encode("yaml")); err != nil || string(got) != "yaml" {
		t.Errorf("Encoded after an error = %s, %v", got, err)
	}
}

func TestEncodingsBeyondTheBudgetAreForgotten(t *testing.T) {
	r := smallRig(t, 10<<10)
	for i := range 10 {
		r.put(fmt.Sprintf("ns/%d", i), "", "")
	}
	r.fresh()
	made := 0
	for range 2 {
		for i := range 10 {
			data, err := r.get(fmt.Sprintf("ns/%d", i)).Encoded("json", func() ([]byte, error) {
				made++
				return make([]byte, 4<<10), nil
			})
			if err != nil || len(data) != 4<<10 {
				t.Fatalf("Encoded = %d bytes, %v", len(data), err)
			}
		}
	}
	if made != 20 {
		t.Errorf("%d encodings were made, want 20: two fit at a time", made)
	}
}

// A list longer than the budget fills what is free, and pushes nothing out.
func TestListsRememberWhereThereIsRoom(t *testing.T) {
	r := smallRig(t, 10<<10)
	for i := range 10 {
		r.put(fmt.Sprintf("ns/%d", i), "", "")
	}
	r.fresh()
	made := 0
	encode := func(to []byte) []byte {
		made++
		return append(to, make([]byte, 4<<10)...)
	}
	if _, err := r.get("ns/9").Encoded("json", func() ([]byte, error) { return encode(nil), nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var list []byte
		for i := range 10 {
			before := len(list)
			var err error
			list, err = r.get(fmt.Sprintf("ns/%d", i)).Append(list, "json", func(to []byte) ([]byte, error) { return encode(to), nil })
			if err != nil || len(list)-before != 4<<10 {
				t.Fatalf("Append appends %d bytes, %v", len(list)-before, err)
			}
		}
	}
	if made != 1+9+8 {
		t.Errorf("%d encodings were made, want 18: one was there, another fits", made)
	}
}

// Objects that writers left and nobody has read since make way for the encodings of a list; what is read stays.
func TestListsTakeThePlaceOfUnreadObjects(t *testing.T) {
	const n, size = 20, 1 << 10
	r := smallRig(t, n*(size+512))
	for i := range n {
		r.put(fmt.Sprintf("ns/%02d", i), "", "")
	}
	r.fresh()
	for i := range n {
		object(t, r.get(fmt.Sprintf("ns/%02d", i)))
	}
	read := object(t, r.get("ns/00"))
	made := 0
	list := func() {
		for i := range n {
			e := r.get(fmt.Sprintf("ns/%02d", i))
			_, err := e.Append(nil, "json", func(to []byte) ([]byte, error) {
				made++
				if _, err := e.Peek(); err != nil {
					return nil, err
				}
				return append(to, make([]byte, size)...), nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	list()
	list()
	if made != n {
		t.Errorf("%d encodings were made, want each of %d once", made, n)
	}
	before := r.decoded.Load()
	if object(t, r.get("ns/00")) != read || r.decoded.Load() != before && !invariant.Enabled {
		t.Error("the object that was read has gone")
	}
}

func TestJudgementIsPassedOnce(t *testing.T) {
	r := newRig(t, memory.New())
	r.put("ns/a", "", "")
	r.put("ns/b", "", "")
	r.fresh()
	for name, verdict := range map[string]cache.Verdict{"ns/a": cache.Yes | 64, "ns/b": cache.No} {
		asked := 0
		for range 3 {
			if got := r.get(name).Judged(func() cache.Verdict { asked++; return verdict }); got != verdict {
				t.Errorf("Judged = %v, want %v", got, verdict)
			}
		}
		w := r.watch(cache.WatchOptions{AfterRevision: r.fresh()})
		r.remove(name)
		events, err := w.Next(t.Context())
		if err != nil || len(events) != 1 {
			t.Fatalf("Next = %d events, %v", len(events), err)
		}
		if got := events[0].Entry.Judged(func() cache.Verdict { asked++; return 0 }); got != verdict {
			t.Errorf("Judged of what was deleted = %v, want %v", got, verdict)
		}
		if asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
	}
}

func TestEntryOfRecord(t *testing.T) {
	r := newRig(t, memory.New())
	one := r.put("ns/a", "", "v=1")
	old, _, err := r.store.Get(t.Context(), pods+"ns/a")
	if err != nil {
		t.Fatal(err)
	}
	r.fresh()
	if r.pods.Entry(old) != r.get("ns/a") {
		t.Error("Entry of the present record is not the cache's")
	}
	two := r.put("ns/a", "", "v=2")
	r.fresh()
	if got := entryText(r.pods.Entry(old)); got != fmt.Sprintf("a(v=1)#%d", one) {
		t.Errorf("Entry of the old record = %s (now at %d)", got, two)
	}
}

func TestAttributesAreReadOnce(t *testing.T) {
	r := newRig(t, memory.New())
	r.put("ns/a", "n1", "")
	r.fresh()
	e := r.get("ns/a")
	for range 3 {
		if _, set, err := e.Attrs(); err != nil || set["spec.nodeName"] != "n1" {
			t.Errorf("Attrs = %v, %v", set, err)
		}
	}
	if n := r.decoded.Load(); n != 1 && !invariant.Enabled {
		t.Errorf("%d decodings, want 1", n)
	}
	first := weak.Make(peeked(t, e).(*corev1.Pod))
	runtime.GC()
	runtime.GC()
	if first.Value() != nil {
		t.Error("an object that was only looked at is still there")
	}
	if _, set, err := e.Attrs(); err != nil || set["spec.nodeName"] != "n1" {
		t.Errorf("Attrs without the object = %v, %v", set, err)
	}
	if kept := object(t, e); peeked(t, e) != kept {
		t.Error("there are two objects of one entry")
	}
}

func peeked(t *testing.T, e *cache.Entry) kinds.Object {
	t.Helper()
	obj, err := e.Peek()
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// The budget grows with what is stored, and shrinks with it.
func TestBudgetFollowsWhatIsStored(t *testing.T) {
	r := smallRig(t, 1)
	for i := range 20 {
		r.put(fmt.Sprintf("ns/%d", i), strings.Repeat("n", 200), "")
	}
	r.fresh()
	made := 0
	encodeAll := func() {
		for i := range 20 {
			e := r.get(fmt.Sprintf("ns/%d", i))
			if _, err := e.Encoded("json", func() ([]byte, error) { made++; return make([]byte, 10), nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	encodeAll()
	encodeAll()
	if made != 20 && !invariant.Enabled {
		t.Errorf("%d encodings were made, want each once", made)
	}
}

// The part of the budget that a cache's entries make ends with the cache, as when a custom resource's definition is deleted.
func TestBudgetShrinksWhenACacheEnds(t *testing.T) {
	r := smallRig(t, 1)
	const ships = "/registry/ships/"
	for i := range 20 {
		name := fmt.Sprintf("%sns/%d", ships, i)
		if _, err := r.store.Update(t.Context(), name, value(name, strings.Repeat("n", 2000), ""), 0, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := cache.New(cache.Config{Feed: r.feed, Prefix: ships, Decode: r.decode, Attrs: attrs})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := 0
	encode := func(from, to int) {
		for i := from; i < to; i++ {
			e := r.get(fmt.Sprintf("ns/%d", i))
			if _, err := e.Encoded("json", func() ([]byte, error) { made++; return make([]byte, 2000), nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 22 {
		r.put(fmt.Sprintf("ns/%d", i), "", "")
	}
	r.fresh()
	encode(0, 20)
	encode(0, 20)
	if made != 20 && !invariant.Enabled {
		t.Fatalf("%d encodings were made while the other cache ran, want each once", made)
	}
	other.Close()
	encode(20, 22) // the budget looks when something is added, and spares what was read before
	made = 0
	encode(0, 20)
	if made == 0 {
		t.Error("what was derived is kept as if the other cache's entries were still there")
	}
}

// TestWritersShareTheEntryOfTheCache, whoever knows of a change first, so that it is decoded once.
func TestWritersShareTheEntryOfTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory.New())
		for i := range 20 {
			r.put("ns/a", "", fmt.Sprintf("v=%d", i))
			record, _, err := r.store.Get(t.Context(), pods+"ns/a")
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 { // else the writer and the feed are there at the same time
				synctest.Wait()
			}
			before := r.decoded.Load()
			e := r.pods.Written(record)
			if _, err := e.Object(); err != nil {
				t.Fatal(err)
			}
			r.fresh()
			if got := r.get("ns/a"); got != e {
				t.Errorf("change %d: the cache has another entry than its writer", i)
			}
			if _, err := r.get("ns/a").Object(); err != nil {
				t.Fatal(err)
			}
			if n := r.decoded.Load() - before; n > 1 && !invariant.Enabled { // which decodes again
				t.Errorf("change %d was decoded %d times", i, n)
			}
		}
		old := store.Record{Key: pods + "ns/a", Value: value(pods+"ns/a", "", "v=0"), ModRevision: 1}
		if e := r.pods.Written(old); e == r.get("ns/a") || e.Revision != 1 {
			t.Errorf("Written = revision %d for what was overwritten", e.Revision)
		}
	})
}
