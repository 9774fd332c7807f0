// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

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

// AwaitAccess asks until somebody may do something. It is for who has just been given a role: authorizers follow what is written, as all views
// do. It fails the test after limit.
func AwaitAccess(t testing.TB, c *client.Client, limit time.Duration, access authorizationv1.SubjectAccessReviewSpec) {
	t.Helper()
	reviews := client.Of[*authorizationv1.SubjectAccessReview](c)
	for timeout := time.After(limit); ; {
		review, err := reviews.Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: access})
		if err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			t.Fatalf("%s is not allowed what it asks for within %v: %+v", access.User, limit, review.Status)
		}
	}
}
