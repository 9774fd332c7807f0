// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

func TestCompactionKeepsHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 { // Two servers share the store.
			go func() { _ = store.Compaction{Store: s}.Run(ctx) }()
		}
		time.Sleep(time.Minute)
		old, err := s.Create(ctx, "/registry/pods/a", nil, store.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		made := time.Now()
		if _, err := s.Update(ctx, "/registry/pods/a", nil, old, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			time.Sleep(time.Second)
			_, err = s.List(ctx, store.ListOptions{Prefix: "/registry/pods/", Revision: old})
		}
		if !errors.Is(err, store.ErrCompacted) {
			t.Errorf("List(old) = %v, want ErrCompacted", err)
		}
		if got := time.Since(made); got < 5*time.Minute || got > 10*time.Minute {
			t.Errorf("the past could be read for %v, want five to ten minutes", got)
		}
		cancel()
	})
}
