// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"kogge.dev/kogge/store"
)

var keyChecks = []check{
	{name: "a created key can be read", run: func(t *testing.T, s store.Store) {
		before, err := s.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rev := create(t, s, "/registry/pods/a", "one")
		if rev != before+1 {
			t.Errorf("Create = revision %d, want %d", rev, before+1)
		}
		got, at, err := s.Get(t.Context(), "/registry/pods/a")
		if err != nil || at != rev {
			t.Fatalf("Get = revision %d, %v, want %d", at, err, rev)
		}
		if want := fmt.Sprintf("/registry/pods/a=one created %d modified %d", rev, rev); text(got) != want {
			t.Errorf("Get = %s, want %s", text(got), want)
		}
	}},
	{name: "an absent key is not found, at a revision", run: func(t *testing.T, s store.Store) {
		rev := create(t, s, "/registry/pods/a", "one")
		_, at, err := s.Get(t.Context(), "/registry/pods/b")
		wantErr(t, "Get(absent)", err, store.ErrNotFound)
		if at != rev {
			t.Errorf("Get(absent) = revision %d, want %d", at, rev)
		}
		_, err = s.Delete(t.Context(), "/registry/pods/b", 7)
		wantErr(t, "Delete(absent)", err, store.ErrNotFound)
		_, err = s.Update(t.Context(), "/registry/pods/b", nil, 7, store.WriteOptions{})
		wantErr(t, "Update(absent)", err, store.ErrNotFound)
	}},
	{name: "a taken key can't be created", run: func(t *testing.T, s store.Store) {
		rev := create(t, s, "/registry/pods/a", "one")
		_, err := s.Create(t.Context(), "/registry/pods/a", []byte("two"), store.WriteOptions{})
		wantErr(t, "Create(taken)", err, store.ErrExists)
		if now, _ := s.Revision(t.Context()); now != rev {
			t.Errorf("a refused create moved the revision from %d to %d", rev, now)
		}
	}},
	{name: "an update needs the right revision and shows the present one", run: checkConflicts},
	{name: "an update with revision 0 creates only", run: func(t *testing.T, s store.Store) {
		rev := update(t, s, "/registry/leases/a", "one", 0)
		_, err := s.Update(t.Context(), "/registry/leases/a", []byte("two"), 0, store.WriteOptions{})
		conflict, ok := errors.AsType[*store.ConflictError](err)
		if !ok || conflict.Current.ModRevision != rev {
			t.Errorf("Update(taken, expected 0) = %v, want a conflict with revision %d", err, rev)
		}
	}},
	{name: "a deleted key can be created again", run: func(t *testing.T, s store.Store) {
		first := create(t, s, "/registry/pods/a", "one")
		gone := remove(t, s, "/registry/pods/a", first)
		if gone != first+1 {
			t.Errorf("Delete = revision %d, want %d", gone, first+1)
		}
		_, _, err := s.Get(t.Context(), "/registry/pods/a")
		wantErr(t, "Get(deleted)", err, store.ErrNotFound)
		again := create(t, s, "/registry/pods/a", "two")
		got, _, err := s.Get(t.Context(), "/registry/pods/a")
		if err != nil || got.CreateRevision != again || got.ModRevision != again {
			t.Errorf("Get = %s, %v, want both revisions %d", text(got), err, again)
		}
	}},
	{name: "an empty value is a value", run: func(t *testing.T, s store.Store) {
		rev := create(t, s, "/registry/pods/a", "")
		if got, _, err := s.Get(t.Context(), "/registry/pods/a"); err != nil || len(got.Value) != 0 {
			t.Errorf("Get = %q, %v, want an empty value", got.Value, err)
		}
		update(t, s, "/registry/pods/a", "x", rev)
	}},
	{name: "the caller keeps its buffer", run: func(t *testing.T, s store.Store) {
		value := []byte("one")
		if _, err := s.Create(t.Context(), "/registry/pods/a", value, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		copy(value, "???")
		if got, _, err := s.Get(t.Context(), "/registry/pods/a"); err != nil || string(got.Value) != "one" {
			t.Errorf("Get = %q, %v, want one", got.Value, err)
		}
	}},
	{name: "a request above the limit is too large", run: func(t *testing.T, s store.Store) {
		rev := create(t, s, "/registry/configmaps/fits", string(make([]byte, store.MaxRequestBytes-4096)))
		_, err := s.Create(t.Context(), "/registry/configmaps/a", make([]byte, store.MaxRequestBytes+1), store.WriteOptions{})
		wantErr(t, "Create(large)", err, store.ErrTooLarge)
		_, err = s.Update(t.Context(), "/registry/configmaps/fits", make([]byte, store.MaxRequestBytes), rev, store.WriteOptions{})
		wantErr(t, "Update(large)", err, store.ErrTooLarge)
	}},
	{name: "of concurrent writers one wins each revision", run: checkWriters},
	{name: "concurrent creates of one key succeed once", run: func(t *testing.T, s store.Store) {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = s.Create(t.Context(), "/registry/pods/a", []byte(strconv.Itoa(i)), store.WriteOptions{})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				wantErr(t, "Create", err, store.ErrExists)
			}
		}
		if won != 1 {
			t.Errorf("%d creates succeeded, want 1", won)
		}
	}},
}

func checkConflicts(t *testing.T, s store.Store) {
	first := create(t, s, "/registry/pods/a", "one")
	second := update(t, s, "/registry/pods/a", "two", first)
	if second != first+1 {
		t.Errorf("Update = revision %d, want %d", second, first+1)
	}
	want := fmt.Sprintf("/registry/pods/a=two created %d modified %d", first, second)
	_, updated := s.Update(t.Context(), "/registry/pods/a", []byte("three"), first, store.WriteOptions{})
	_, deleted := s.Delete(t.Context(), "/registry/pods/a", first)
	_, deletedAny := s.Delete(t.Context(), "/registry/pods/a", 0)
	for what, err := range map[string]error{"Update(old)": updated, "Delete(old)": deleted, "Delete(0)": deletedAny} {
		conflict, ok := errors.AsType[*store.ConflictError](err)
		if !ok {
			t.Errorf("%s = %v, want a conflict", what, err)
		} else if text(conflict.Current) != want {
			t.Errorf("%s: Current = %s, want %s", what, text(conflict.Current), want)
		}
	}
	if got, _, err := s.Get(t.Context(), "/registry/pods/a"); err != nil || text(got) != want {
		t.Errorf("Get = %s, %v, want %s", text(got), err, want)
	}
}

// checkWriters lets writers count one key up together: each increment must build on the one before.
func checkWriters(t *testing.T, s store.Store) {
	const writers, each = 8, 25
	create(t, s, "/registry/counter", "0")
	var wg sync.WaitGroup
	revisions := make([][]int64, writers)
	for w := range writers {
		wg.Go(func() {
			for range each {
				rev, err := increment(t, s, "/registry/counter")
				if err != nil {
					t.Errorf("increment: %v", err)
					return
				}
				revisions[w] = append(revisions[w], rev)
			}
		})
	}
	wg.Wait()
	got, _, err := s.Get(t.Context(), "/registry/counter")
	if err != nil || string(got.Value) != strconv.Itoa(writers*each) {
		t.Errorf("the counter is %s, %v, want %d", got.Value, err, writers*each)
	}
	var all []int64
	for _, r := range revisions {
		if !slices.IsSorted(r) {
			t.Errorf("one writer's revisions fall: %v", r)
		}
		all = append(all, r...)
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != writers*each {
		t.Errorf("%d different revisions, want %d", n, writers*each)
	}
}

func increment(t *testing.T, s store.Store, key string) (int64, error) {
	current, _, err := s.Get(t.Context(), key)
	for {
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(string(current.Value))
		if err != nil {
			return 0, err
		}
		rev, err := s.Update(t.Context(), key, []byte(strconv.Itoa(n+1)), current.ModRevision, store.WriteOptions{})
		conflict, ok := errors.AsType[*store.ConflictError](err)
		if !ok {
			return rev, err
		}
		current = conflict.Current
	}
}
