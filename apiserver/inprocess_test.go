// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store/memory"
)

// bubble runs a server inside a synctest bubble: any goroutine that outlives it fails the test.
func bubble(t *testing.T, test func(t *testing.T, ctx context.Context, s *apiserver.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := apiserver.New(apiserver.Config{
			Store: memory.New(), Catalog: catalog.New(), Logger: slog.New(slog.DiscardHandler),
			Build: func(*apiserver.Server) (apiserver.Parts, error) { return apiserver.Parts{Authorizer: allowAll{}}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		if err := s.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		test(t, ctx, s)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
}

func TestInProcessClientInBubble(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *apiserver.Server) {
		c := client.New(s.Client(request.User{Name: "system:serviceaccount:kube-system:tester"}), catalog.New())
		informers := client.NewInformers(c, slog.New(slog.DiscardHandler))
		maps := client.InformerFor[*corev1.ConfigMap](informers)
		ran := make(chan error, 1)
		ctx, cancel := context.WithCancel(ctx)
		go func() { ran <- informers.Run(ctx) }()
		synctest.Wait()
		if err := informers.WaitSynced(ctx); err != nil {
			t.Fatal(err)
		}
		mine := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, Data: map[string]string{"k": "v"}}
		stored, err := client.Of[*corev1.ConfigMap](c).Create(ctx, mine)
		if err != nil {
			t.Fatal(err)
		}
		if stored == mine || mine.UID != "" || mine.Kind != "" {
			t.Errorf("Create() kept or changed the caller's object: %+v", mine)
		}
		synctest.Wait()
		seen, ok := maps.Get("default", "a")
		if !ok || seen.Data["k"] != "v" || seen.ResourceVersion != stored.ResourceVersion {
			t.Errorf("informer has %+v, %v; want the object as stored", seen, ok)
		}
		if got := stored.ManagedFields[0].Manager; got != "tester" {
			t.Errorf("field manager = %q, want tester", got)
		}
		fresh, err := client.Of[*corev1.ConfigMap](c).Get(ctx, "default", "a")
		if err != nil || fresh != seen {
			t.Errorf("Get() = %p, %v; want the object that the informer shares, %p", fresh, err, seen)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("informers: %v", err)
		}
	})
}

func TestInProcessClientIsAuthorized(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *apiserver.Server) {
		c := client.New(s.Client(request.User{Name: "nobody"}), catalog.New())
		_, err := client.Of[*corev1.Secret](c).Get(ctx, "default", "a")
		const want = `secrets "a" is forbidden: User "nobody" cannot get resource "secrets" in API group "" in the namespace "default"`
		if !apierrors.IsForbidden(err) || err.Error() != want {
			t.Errorf("Get() = %v, want %s", err, want)
		}
	})
}

func TestWatchEndsWithItsTime(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *apiserver.Server) {
		c := client.New(s.Client(request.User{Name: "tester"}), catalog.New())
		seconds := int64(90)
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // bookmarks could come for ever
		defer cancel()
		began := time.Now()
		stream, err := client.Of[*corev1.Pod](c).Watch(ctx, "", metav1.ListOptions{TimeoutSeconds: &seconds, AllowWatchBookmarks: true, ResourceVersion: "1"})
		if err != nil {
			t.Fatal(err)
		}
		bookmarks := 0
		for ev := range stream.Events() {
			if ev.Type != "BOOKMARK" {
				t.Errorf("event %v", ev)
			}
			bookmarks++
		}
		if took := time.Since(began); took != 90*time.Second || bookmarks < 2 {
			t.Errorf("watch took %v with %d bookmarks, want 90s with one after a minute and one at the end", took, bookmarks)
		}
	})
}

func TestEngineCountsWhoHearsOfAChange(t *testing.T) {
	s := start(t)
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	backend := s.Client(request.User{Name: "watcher"})
	for _, c := range []struct{ namespace, selector string }{{"", ""}, {"default", ""}, {"default", "metadata.name=one"}, {"other", ""}} {
		stream, err := backend.Watch(t.Context(), &client.Request{
			Resource: maps, Namespace: c.namespace, ListOptions: &metav1.ListOptions{FieldSelector: c.selector},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Stop()
	}
	for _, c := range []struct {
		namespace, name string
		want            int
	}{{"default", "one", 3}, {"default", "two", 2}, {"default", "", 2}, {"elsewhere", "one", 1}} {
		if got := s.Engine().Watchers(maps, c.namespace, c.name); got != c.want {
			t.Errorf("%d hear of %s/%s, want %d", got, c.namespace, c.name, c.want)
		}
	}
	if got := s.Engine().Watchers(schema.GroupVersionResource{Version: "v1", Resource: "none"}, "default", "one"); got != 0 {
		t.Errorf("%d hear of what is not served", got)
	}
}
