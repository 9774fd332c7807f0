// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/apiserver/watch"
	"kogge.dev/kogge/client"
)

// TestPollLooksAfterItIsWoken has a change come while a part of those before it is still to be sent. Who is woken polls until there is no more, and
// then only when woken again.
func TestPollLooksAfterItIsWoken(t *testing.T) {
	ctx, engine := t.Context(), start(t).Engine()
	target := engine.Lookup(corev1.SchemeGroupVersion.WithResource("configmaps"))
	create := func(name string, size int) {
		t.Helper()
		obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"x": strings.Repeat("y", size)}}
		if _, err := engine.Execute(ctx, &rest.Call{Verb: client.Create, Target: target, Namespace: "default", Object: obj}); err != nil {
			t.Fatal(err)
		}
		// A list returns when the cache has seen what was written, and has told of it.
		if _, err := engine.Execute(ctx, &rest.Call{Verb: client.List, Target: target, Namespace: "default"}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := engine.Watch(ctx, &rest.Call{Verb: client.Watch, Target: target, Namespace: "default", Woken: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	pollOnce := apiserver.PollOf(target, stream)
	poll := func() (names []string, more bool) {
		t.Helper()
		events, more, err := pollOnce(ctx)
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
