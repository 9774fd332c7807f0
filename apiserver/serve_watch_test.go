// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/apiserver/watch"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store/memory"
)

// everybody may do everything.
type everybody struct{}

func (everybody) Authorize(context.Context, *authz.Attributes) (authz.Decision, string, error) {
	return authz.Allow, "", nil
}

// TestPollLooksAfterItIsWoken has a change come while a part of those before it is still to be sent. Who is woken polls until there is no more, and
// then only when woken again.
func TestPollLooksAfterItIsWoken(t *testing.T) {
	s, err := New(Config{
		Store: memory.New(), Catalog: catalog.New(), Logger: slog.New(slog.DiscardHandler),
		Services: rest.ServiceConfig{CIDRs: []string{"10.96.0.0/24"}},
		Build:    func(*Server) (Parts, error) { return Parts{Authorizer: everybody{}}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v", err)
		}
	})
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}

	target := s.engine.Lookup(corev1.SchemeGroupVersion.WithResource("configmaps"))
	create := func(name string, size int) {
		t.Helper()
		obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"x": strings.Repeat("y", size)}}
		if _, err := s.engine.Execute(ctx, &rest.Call{Verb: client.Create, Target: target, Namespace: "default", Object: obj}); err != nil {
			t.Fatal(err)
		}
		// A list returns when the cache has seen what was written, and has told of it.
		if _, err := s.engine.Execute(ctx, &rest.Call{Verb: client.List, Target: target, Namespace: "default"}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := s.engine.Watch(ctx, &rest.Call{Verb: client.Watch, Target: target, Namespace: "default", Woken: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	source := &watchSource{answer: &answer{Accepted: codec.Accepted{Format: codec.JSON}, target: target}, stream: stream}
	poll := func() (names []string, more bool) {
		t.Helper()
		events, more, err := source.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			_, name, _ := strings.Cut(string(ev.Object), `"name":"`)
			name, _, _ = strings.Cut(name, `"`)
			names = append(names, name)
		}
		return names, more
	}

	for i := range 3 {
		create(fmt.Sprint("before-", i), watch.Enough*2/3)
	}
	heard, more := poll()
	if want := []string{"before-0", "before-1"}; !slices.Equal(heard, want) || !more {
		t.Fatalf("the first poll brought %v, more = %v, want %v and more", heard, more, want)
	}
	create("meanwhile", 1) // This wakes the watcher, who polls.
	for more {
		var next []string
		next, more = poll()
		heard = append(heard, next...)
	}
	if want := []string{"before-0", "before-1", "before-2", "meanwhile"}; !slices.Equal(heard, want) {
		t.Errorf("until there was no more, polls brought %v, want %v", heard, want)
	}
}
