// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"testing"
	"time"

	"kogge.dev/kogge/store"
)

var timeChecks = []check{
	{name: "a key with a time to live vanishes by itself", run: func(t *testing.T, s store.Store) {
		r, _ := record(t, s, "/registry/events/", now(t, s))
		begin := time.Now()
		rev, err := s.Create(t.Context(), "/registry/events/a", []byte("1"), store.WriteOptions{TTL: 700 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		keep := create(t, s, "/registry/events/b", "1")
		got := r.events(t, 3)
		if want := fmt.Sprintf("deleted /registry/events/a=1 created %d modified %d", rev, keep+1); got[2] != want {
			t.Errorf("event = %s, want %s", got[2], want)
		}
		if after := time.Since(begin); after < 700*time.Millisecond || after > 8*time.Second {
			t.Errorf("it vanished after %v, want a second", after)
		}
		_, _, err = s.Get(t.Context(), "/registry/events/a")
		wantErr(t, "Get(expired)", err, store.ErrNotFound)
		if _, _, err := s.Get(t.Context(), "/registry/events/b"); err != nil {
			t.Errorf("Get(without time to live): %v", err)
		}
	}},
	{name: "an update renews or removes the time to live", run: func(t *testing.T, s store.Store) {
		short := store.WriteOptions{TTL: time.Second}
		kept, err := s.Create(t.Context(), "/registry/events/kept", []byte("1"), short)
		if err != nil {
			t.Fatal(err)
		}
		update(t, s, "/registry/events/kept", "2", kept)
		renewed, err := s.Create(t.Context(), "/registry/events/renewed", []byte("1"), short)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Update(t.Context(), "/registry/events/renewed", []byte("2"), renewed, store.WriteOptions{TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		// Each is updated before the next is made: a slow machine has a second for each.
		r, _ := record(t, s, "/registry/events/", now(t, s))
		if _, err := s.Create(t.Context(), "/registry/events/gone", []byte("1"), short); err != nil {
			t.Fatal(err)
		}
		r.events(t, 2)
		_, _, err = s.Get(t.Context(), "/registry/events/gone")
		wantErr(t, "Get(expired)", err, store.ErrNotFound)
		for _, key := range []string{"/registry/events/kept", "/registry/events/renewed"} {
			if _, _, err := s.Get(t.Context(), key); err != nil {
				t.Errorf("Get(%s): %v", key, err)
			}
		}
	}},
}
