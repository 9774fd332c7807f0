// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/storetest"
)

// openMember opens an etcd that is closed with the test.
func openMember(t *testing.T, cfg Config) *Embedded {
	t.Helper()
	e := startMember(t, cfg)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// startMember opens an etcd that the test closes.
func startMember(t *testing.T, cfg Config) *Embedded {
	t.Helper()
	cfg.DataDir, cfg.UnsafeNoFsync = t.TempDir(), true
	e, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A member that has peers reads by a round of Raft.
func TestConformanceWithRaftReads(t *testing.T) {
	t.Parallel()
	storetest.Suite{Timeless: true, Open: func(t *testing.T) store.Store {
		e := openMember(t, Config{})
		e.alone = false
		return e
	}}.Run(t)
}

// held is a watch of everything whose first batch is held back until release is closed.
type held struct {
	release chan struct{}
	// reached is closed when the first batch has come.
	reached chan struct{}
	batches chan store.Batch
	ended   chan error
}

func hold(t *testing.T, s *Embedded) *held {
	t.Helper()
	begin, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := &held{release: make(chan struct{}), reached: make(chan struct{}), batches: make(chan store.Batch, 10000), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var once sync.Once
	go func() {
		h.ended <- s.Watch(ctx, "/registry/", begin, func(b store.Batch) error {
			once.Do(func() {
				close(h.reached)
				<-h.release
			})
			h.batches <- b
			return nil
		})
	}()
	return h
}

// next waits for a batch of events, or the end of the watch.
func (h *held) next(t *testing.T) (store.Batch, error) {
	t.Helper()
	select {
	case b := <-h.batches:
		return b, nil
	default:
	}
	select {
	case b := <-h.batches:
		return b, nil
	case err := <-h.ended:
		h.ended <- err
		select {
		case b := <-h.batches: // It came before the end.
			return b, nil
		default:
			return store.Batch{}, err
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the watch brings nothing")
		return store.Batch{}, nil
	}
}

func mustCreate(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	revision, err := s.Create(t.Context(), key, []byte(value), store.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// putPair writes two keys in one revision.
func putPair(t *testing.T, s *Embedded, value string) {
	t.Helper()
	_, err := s.Client().Txn(t.Context()).Then(clientv3.OpPut("/registry/a", value), clientv3.OpPut("/registry/b", value)).Commit()
	if err != nil {
		t.Fatal(err)
	}
}

// etcd gives a watch that lags a thousand revisions at a time, and one that is blocked what had no room later.
func TestRevisionsAreNotSplit(t *testing.T) {
	t.Parallel()
	s := openMember(t, Config{})
	h := hold(t, s)
	const n = 2300
	for i := range n {
		putPair(t, s, fmt.Sprint(i))
	}
	<-h.reached
	close(h.release)
	behind := hold(t, s)
	close(behind.release)
	putPair(t, s, "last")
	checkPairs(t, "a watch that was blocked", h, n+1)
	checkPairs(t, "a watch that was not", behind, 1)

	late := &held{batches: make(chan store.Batch, 10000), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		late.ended <- s.Watch(ctx, "/registry/", 1, func(b store.Batch) error {
			late.batches <- b
			return nil
		})
	}()
	checkPairs(t, "a watch of the past", late, n+1)
	cancel()
	if err := <-late.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v, want it canceled", err)
	}
}

// checkPairs checks that the next events are so many pairs, none of which is split over batches.
func checkPairs(t *testing.T, what string, h *held, pairs int) {
	t.Helper()
	var last int64
	for seen := 0; seen < 2*pairs; {
		b, err := h.next(t)
		if err != nil {
			t.Fatalf("%s ended: %v", what, err)
		}
		if len(b.Events)%2 != 0 {
			t.Fatalf("%s: a batch of %d events", what, len(b.Events))
		}
		for i := 0; i < len(b.Events); i += 2 {
			first, second := b.Events[i], b.Events[i+1]
			if first.ModRevision != second.ModRevision || last != 0 && first.ModRevision != last+1 {
				t.Fatalf("%s: a pair of revisions %d and %d after revision %d", what, first.ModRevision, second.ModRevision, last)
			}
			last = first.ModRevision
		}
		if b.Revision != last {
			t.Fatalf("%s: a batch of revision %d with a last event of revision %d", what, b.Revision, last)
		}
		seen += len(b.Events)
	}
}

// What a watch has no room for is compacted before it has: it brings all before that, and ends.
func TestCompactionUnderLaggingWatch(t *testing.T) {
	t.Parallel()
	s := openMember(t, Config{})
	h := hold(t, s)
	first := mustCreate(t, s, "/registry/a", "0")
	<-h.reached
	revision := first
	for range 1000 { // More than a stream has room for.
		var err error
		if revision, err = s.Update(t.Context(), "/registry/a", []byte("1"), revision, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	close(h.release)
	for want := first; ; want++ {
		b, err := h.next(t)
		if err != nil {
			if !errors.Is(err, store.ErrCompacted) || want == first || want > revision {
				t.Errorf("Watch ended before revision %d of %d: %v, want ErrCompacted", want, revision, err)
			}
			return
		}
		if len(b.Events) != 1 || b.Events[0].ModRevision != want {
			t.Fatalf("events = %v, want one of revision %d", b.Events, want)
		}
	}
}

// A deletion has the value before it, unless that is compacted before the watch comes to it.
func TestValueOfDeletion(t *testing.T) {
	t.Parallel()
	for name, compacted := range map[string]bool{"kept": false, "compacted": true} {
		t.Run(name, func(t *testing.T) {
			s := openMember(t, Config{})
			h := hold(t, s)
			created := mustCreate(t, s, "/registry/a", "1")
			<-h.reached
			deleted, err := s.Delete(t.Context(), "/registry/a", created)
			if err != nil {
				t.Fatal(err)
			}
			again := mustCreate(t, s, "/registry/a", "2")
			if compacted {
				if err := s.Compact(t.Context(), deleted); err != nil {
					t.Fatal(err)
				}
			}
			close(h.release)
			want := store.Record{Key: "/registry/a", Value: []byte("1"), CreateRevision: created, ModRevision: deleted}
			if compacted {
				want.Value, want.CreateRevision = nil, 0
			}
			var events []store.Event
			for len(events) < 3 {
				b, err := h.next(t)
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, b.Events...)
			}
			got := events[1]
			if !got.Deleted || got.Created || string(got.Value) != string(want.Value) || got.CreateRevision != want.CreateRevision || got.ModRevision != deleted {
				t.Errorf("event = %+v, want the deletion of %+v", got, want)
			}
			if last := events[2]; !last.Created || last.ModRevision != again {
				t.Errorf("event after it = %+v, want a creation", last)
			}
		})
	}
}

// All keys of a lease go in one revision, each with its value.
func TestRevokedLeaseIsOneBatch(t *testing.T) {
	t.Parallel()
	s := openMember(t, Config{})
	h := hold(t, s)
	close(h.release)
	const n = 20
	for i := range n {
		if _, err := s.Create(t.Context(), fmt.Sprintf("/registry/%d", i), fmt.Append(nil, i), store.WriteOptions{TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.next(t); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range s.leases.current {
		if _, err := s.Client().Revoke(t.Context(), l.id); err != nil {
			t.Fatal(err)
		}
	}
	b, err := h.next(t)
	if err != nil || len(b.Events) != n {
		t.Fatalf("batch = %d events, %v, want %d", len(b.Events), err, n)
	}
	for _, ev := range b.Events {
		if !ev.Deleted || "/registry/"+string(ev.Value) != ev.Key || ev.ModRevision != b.Revision {
			t.Errorf("event = %+v, want a deletion with its value at revision %d", ev, b.Revision)
		}
	}
	// The store does not know yet that the lease is gone.
	if _, err := s.Create(t.Context(), "/registry/again", []byte("1"), store.WriteOptions{TTL: time.Hour}); err != nil {
		t.Errorf("Create with a lease that was revoked: %v", err)
	}
}

// A watch that is blocked does not keep others from progress.
func TestProgressBesideBlockedWatch(t *testing.T) {
	t.Parallel()
	s := openMember(t, Config{})
	blocked, free := hold(t, s), hold(t, s)
	defer close(blocked.release)
	close(free.release)
	revision := mustCreate(t, s, "/registry/a", "0")
	<-blocked.reached
	for range 500 { // More than a stream has room for.
		var err error
		if revision, err = s.Update(t.Context(), "/registry/a", []byte("1"), revision, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := free.next(t); err != nil {
			t.Fatal(err)
		}
	}
	other := mustCreate(t, s, "/other", "1")
	if _, err := free.next(t); err != nil { // the last update
		t.Fatal(err)
	}
	if err := s.Progress(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := free.next(t); err != nil || len(b.Events) > 0 || b.Revision != other {
		t.Errorf("batch = %+v, %v, want a mark of revision %d", b, err, other)
	}
}

// Closing ends what runs with errors, whatever it is at, and so does all that comes later.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*Embedded){
		"closed": func(e *Embedded) { _ = e.Close() },
		"stopped by itself": func(e *Embedded) {
			e.etcd.Server.HardStop()
			_ = e.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				s := startMember(t, Config{})
				var wg sync.WaitGroup
				<-load(t, s, &wg)
				stop(s)
				wg.Wait()
				checkClosed(t, s)
			}
		})
	}
}

// load runs watches, reads and writes until they fail. The channel is closed when a watch has seen some.
func load(t *testing.T, s *Embedded, wg *sync.WaitGroup) <-chan struct{} {
	t.Helper()
	moving := make(chan struct{})
	var seen sync.Once
	for i := range 4 {
		wg.Go(func() {
			events := 0
			err := s.Watch(t.Context(), "/registry/", 0, func(b store.Batch) error {
				if events += len(b.Events); events > 50 {
					seen.Do(func() { close(moving) })
				}
				return nil
			})
			if err == nil {
				t.Error("Watch ended without an error")
			}
		})
		wg.Go(func() {
			for { // Deletions have a watch read, too.
				key := fmt.Sprintf("/registry/%d", i)
				revision, err := s.Create(t.Context(), key, []byte("1"), store.WriteOptions{})
				if err == nil {
					_, err = s.Delete(t.Context(), key, revision)
				}
				if err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			for {
				_, _, err := s.Get(t.Context(), fmt.Sprintf("/registry/%d", i))
				if err == nil || errors.Is(err, store.ErrNotFound) {
					_, err = s.List(t.Context(), store.ListOptions{Prefix: "/registry/"})
				}
				if err == nil {
					err = s.Progress(t.Context())
				}
				if err != nil {
					return
				}
			}
		})
	}
	return moving
}

func checkClosed(t *testing.T, s *Embedded) {
	t.Helper()
	_, _, get := s.Get(t.Context(), "/registry/1")
	_, list := s.List(t.Context(), store.ListOptions{Prefix: "/registry/"})
	_, revision := s.Revision(t.Context())
	_, create := s.Create(t.Context(), "/registry/new", nil, store.WriteOptions{})
	watch := s.Watch(t.Context(), "/registry/", 0, func(store.Batch) error { return nil })
	for what, err := range map[string]error{"Get": get, "List": list, "Revision": revision, "Create": create, "Watch": watch} {
		if err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a store that is closed = %v, want an error", what, err)
		}
	}
	if err := s.Progress(t.Context()); err != nil {
		t.Errorf("Progress of a store that is closed = %v", err)
	}
}

// A full database takes nothing more, but deletions.
func TestQuota(t *testing.T) {
	t.Parallel()
	const quota = 4 << 20
	s := openMember(t, Config{Quota: quota})
	first := mustCreate(t, s, "/registry/first", "1")
	for i := range 5 {
		mustCreate(t, s, fmt.Sprintf("/registry/%d", i), string(make([]byte, quota/5)))
	}
	s.etcd.Server.Backend().ForceCommit() // The size of the database is known then.
	_, create := s.Create(t.Context(), "/registry/new", []byte("1"), store.WriteOptions{})
	_, update := s.Update(t.Context(), "/registry/first", []byte("2"), first, store.WriteOptions{})
	for what, err := range map[string]error{"Create": create, "Update": update} {
		if !errors.Is(err, rpctypes.ErrNoSpace) || errors.Is(err, store.ErrTooLarge) {
			t.Errorf("%s in a full database = %v, want ErrNoSpace", what, err)
		}
	}
	if _, _, err := s.Get(t.Context(), "/registry/new"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of what was refused = %v, want ErrNotFound", err)
	}
	alarms, err := s.Client().AlarmList(t.Context())
	if err != nil || len(alarms.Alarms) != 1 {
		t.Errorf("alarms = %v, %v, want one", alarms, err)
	}
	if _, err := s.Delete(t.Context(), "/registry/first", first); err != nil {
		t.Errorf("Delete in a full database: %v", err)
	}
}
