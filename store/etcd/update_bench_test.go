// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"testing"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/etcd"
)

// BenchmarkUpdate measures updates of one key, one after the other, and one watch that sees them.
func BenchmarkUpdate(b *testing.B) {
	s := open(b, etcd.Config{DataDir: b.TempDir(), UnsafeNoFsync: true})
	value := make([]byte, 4096)
	revision, err := s.Create(b.Context(), "/registry/pods/ns/a", value, store.WriteOptions{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	seen := make(chan int64, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Watch(ctx, "/registry/", revision, func(batch store.Batch) error { // it ends with ctx
			seen <- batch.Revision
			return nil
		})
	}()
	b.ReportAllocs()
	for b.Loop() {
		if revision, err = s.Update(b.Context(), "/registry/pods/ns/a", value, revision, store.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
		for at := int64(0); at < revision; {
			at = <-seen
		}
	}
	cancel()
	<-ended
}
