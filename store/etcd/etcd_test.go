// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/etcd"
	"kogge.dev/kogge/store/storetest"
)

// open opens an etcd that is closed with the test.
func open(t testing.TB, cfg etcd.Config) *etcd.Embedded {
	t.Helper()
	if os.Getenv("ETCD_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := etcd.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Suite{Open: func(t *testing.T) store.Store {
		return open(t, etcd.Config{DataDir: t.TempDir(), UnsafeNoFsync: true, Tick: 100 * time.Millisecond})
	}}.Run(t)
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	var rev int64
	for i := range 3 {
		begin := time.Now()
		s, err := etcd.Open(t.Context(), etcd.Config{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("opened in %v", time.Since(begin))
		if got, err := s.Revision(t.Context()); err != nil || (i > 0 && got != rev) {
			t.Errorf("Revision = %d, %v, want %d", got, err, rev)
		}
		if rev, err = s.Create(t.Context(), fmt.Sprintf("/registry/pods/%d", i), []byte("1"), store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := etcd.Open(t.Context(), etcd.Config{DataDir: dir}); !errors.Is(err, etcd.ErrInUse) {
			t.Errorf("a second Open = %v, want ErrInUse", err)
		}
		begin = time.Now()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		t.Logf("closed in %v", time.Since(begin))
	}
}
