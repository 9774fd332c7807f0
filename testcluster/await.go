// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Await watches the objects of a namespace until they satisfy ok, and returns them. It fails the test after limit with
// what was there last.
func Await[T kinds.Object](t testing.TB, c *client.Client, namespace string, limit time.Duration, ok func([]T) bool) []T {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	informers := client.NewInformers(c, slog.New(slog.DiscardHandler))
	f := client.InformerFor[T](informers, client.Selection{Namespace: namespace})
	wake := make(chan struct{}, 1) // one sign is enough: each look reads everything
	signal := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	f.Handle(client.Handler[T]{Add: func(T) { signal() }, Update: func(_, _ T) { signal() }, Delete: func(T) { signal() }})
	ended := make(chan error, 1)
	go func() { ended <- informers.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	timeout := time.After(limit)
	for synced := f.Synced(); ; {
		select {
		case <-synced:
			synced = nil
		case <-wake:
		case <-timeout:
			var names []string
			for obj := range f.All() {
				names = append(names, obj.GetNamespace()+"/"+obj.GetName())
			}
			t.Fatalf("objects did not become as wanted within %v; there are %v", limit, names)
		}
		if all := f.List(""); synced == nil && ok(all) {
			return all
		}
	}
}

// Settle returns once the server acts by what was written before: authorizers and admission read its caches, for which a consistent list waits.
// A consistent read of one object does not: it asks the store.
func Settle(t testing.TB, c *client.Client) {
	t.Helper()
	if _, err := client.Of[*corev1.Namespace](c).List(t.Context(), "", metav1.ListOptions{Limit: 1}); err != nil {
		t.Fatal(err)
	}
}

// AwaitServed waits until a resource can be listed: a definition's resource is served, at its new versions, a moment after the definition is
// written. It fails the test after limit.
func AwaitServed[T kinds.Object](t testing.TB, r client.Resource[T], limit time.Duration) {
	t.Helper()
	for timeout := time.After(limit); ; {
		_, err := r.List(t.Context(), "", metav1.ListOptions{Limit: 1})
		if err == nil {
			return
		}
		select {
		case <-time.After(time.Millisecond): // nothing tells of it
		case <-timeout:
			t.Fatalf("%s is not served within %v: %v", r.GVR(), limit, err)
		}
	}
}
