// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cni/routes"
	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/ledger"
)

// nodes is a backend that lists one node without ranges and then sends what the test puts into events.
type nodes struct{ events chan watch.Event }

func (n nodes) Do(context.Context, *client.Request) (*client.Result, error) {
	return &client.Result{Items: []runtime.Object{node("a", "1", "")}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
}
func (n nodes) Watch(context.Context, *client.Request) (client.Stream, error) { return n, nil }
func (n nodes) Events() <-chan watch.Event                                    { return n.events }
func (n nodes) Stop()                                                         {}

func node(name, version string, cidrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}}
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "10.0.0.99"}, {Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeInternalIP, Address: "junk"},
	}
	for _, c := range cidrs {
		if c != "" {
			n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, c)
		}
	}
	return n
}

// TestConfiguresOnceItHasRangesAndTriesAgain follows a node from registration on: nothing happens without ranges, a
// failure is tried again, and a heartbeat changes nothing.
func TestConfiguresOnceItHasRangesAndTriesAgain(t *testing.T) {
	l, err := ledger.Open(ledger.Config{Path: filepath.Join(t.TempDir(), "ledger")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	router, err := routes.New(routes.Config{Ledger: l})
	if errors.Is(err, os.ErrPermission) {
		need.No(t, "netlink for this user", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer router.Close()
	synctest.Test(t, func(t *testing.T) {
		backend := nodes{events: make(chan watch.Event, 10)}
		informers := client.NewInformers(client.New(backend, catalog.New()), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var calls []string
		done := make(chan error, 2)
		go func() {
			done <- Run(ctx, Config{
				NodeName: "a", Nodes: client.InformerFor[*corev1.Node](informers), Router: router,
				Configure: func(_ context.Context, ranges []netip.Prefix) error {
					mu.Lock()
					defer mu.Unlock()
					calls = append(calls, fmt.Sprint(ranges))
					if len(calls) == 1 {
						return errors.New("not today")
					}
					return nil
				},
			})
		}()
		go func() { done <- informers.Run(ctx) }()
		check := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(calls, want) {
				t.Errorf("%s: Configure was called with %s, want %s", when, strings.Join(calls, ", "), strings.Join(want, ", "))
			}
		}
		const ranges = "[10.244.1.0/24 fd00:1::/64]"
		check("without ranges")
		backend.events <- watch.Event{Type: watch.Modified, Object: node("a", "2", "10.244.1.0/24", "fd00:1::/64")}
		check("with ranges", ranges)
		time.Sleep(retryFirst)
		check("after a failure", ranges, ranges)
		backend.events <- watch.Event{Type: watch.Modified, Object: node("a", "3", "10.244.1.0/24", "fd00:1::/64")}
		time.Sleep(time.Minute)
		check("after a heartbeat", ranges, ranges)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
