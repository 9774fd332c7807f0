// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
	"kogge.dev/kogge/testcluster"
)

// stalling is a store that writes no lease while it stalls.
type stalling struct {
	store.Store
	stalls atomic.Bool
}

func (s *stalling) Update(ctx context.Context, key string, value []byte, expected int64, opts store.WriteOptions) (int64, error) {
	if s.stalls.Load() && strings.HasPrefix(key, "/registry/leases/") {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return s.Store.Update(ctx, key, value, expected, opts)
}

// TestLostLeasesEndNothing has controllers, cloud loops and scheduler lose their leases, and looks whether the controllers work afterwards.
func TestLostLeasesEndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &stalling{Store: memory.New()}
		c := testcluster.New(t, testcluster.Config{Store: slow}).Admin()
		time.Sleep(time.Minute)
		slow.stalls.Store(true)
		time.Sleep(20 * time.Second)
		slow.stalls.Store(false)
		time.Sleep(20 * time.Second)
		if _, err := client.Of[*corev1.Namespace](c).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "later"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := client.Of[*corev1.ServiceAccount](c).Get(t.Context(), "later", "default"); err != nil {
			t.Errorf("the service account of a namespace: %v", err)
		}
	})
}
