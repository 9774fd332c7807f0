// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
)

func longRunning(t *testing.T, s *apiserver.Server) string {
	t.Helper()
	for line := range strings.Lines(ask(t, s, "GET", "/metrics", nil).Body.String()) {
		if value, ok := strings.CutPrefix(line, `apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="cluster",subresource="",verb="WATCH",version="v1"} `); ok {
			return strings.TrimSpace(value)
		}
	}
	return "no"
}

// TestStreamsEndHoweverTheyAreRead has watches whose events are pulled, sent to a channel, and read by nobody: each ends when it is stopped, when the caller's
// context ends, or with the server, which waits for all.
func TestStreamsEndHoweverTheyAreRead(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *apiserver.Server) {
		maps := client.Of[*corev1.ConfigMap](client.New(s.Client(request.User{Name: "watcher"}), catalog.New()))
		begin := func(ctx context.Context) client.Puller {
			stream, err := maps.Watch(ctx, "", metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return stream.(client.Puller)
		}
		create := func(name string) {
			if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}); err != nil {
				t.Fatal(err)
			}
		}
		text := func(ev watch.Event) string { return fmt.Sprint(ev.Type, " ", ev.Object.(metav1.Object).GetName()) }

		pulled, sent := begin(ctx), begin(ctx)
		create("a")
		if events, more := pulled.Next(); !more || len(events) != 1 || text(events[0]) != "ADDED a" {
			t.Errorf("Next() = %v, %v; want the object that was added", events, more)
		}
		if ev := <-sent.Events(); text(ev) != "ADDED a" {
			t.Errorf("event = %v, want the object that was added", ev)
		}

		// Stopped while somebody waits, before anybody does, and more than once.
		ended := make(chan bool)
		go func() {
			_, more := pulled.Next()
			ended <- more
		}()
		synctest.Wait()
		pulled.Stop()
		if <-ended {
			t.Error("Next() of a stopped stream tells of more")
		}
		sent.Stop()
		if ev, open := <-sent.Events(); open {
			t.Errorf("a stopped stream sends %v", ev)
		}
		early := begin(ctx)
		early.Stop()
		early.Stop()
		if _, more := early.Next(); more {
			t.Error("Next() after Stop() tells of more")
		}
		if _, open := <-early.Events(); open {
			t.Error("the channel of a stopped stream is open")
		}

		// Its caller's context ends.
		caller, cancel := context.WithCancel(ctx)
		pulled, sent = begin(caller), begin(caller)
		channel := sent.Events()
		pulled.Next() // what is there
		<-channel
		cancel()
		if _, more := pulled.Next(); more {
			t.Error("Next() tells of more after its caller's end")
		}
		if _, open := <-channel; open {
			t.Error("the channel is open after its caller's end")
		}
		synctest.Wait()
		if n := longRunning(t, s); n != "0" {
			t.Errorf("%s watches run, want none", n)
		}

		// The rest ends with the server.
		begin(context.WithoutCancel(ctx))
		begin(context.WithoutCancel(ctx)).Events()
		waiting := begin(context.WithoutCancel(ctx))
		go waiting.Next()
		synctest.Wait()
		if n := longRunning(t, s); n != "3" {
			t.Errorf("%s watches run, want 3", n)
		}
	})
}

// TestLastEventIsSent has watches begin at a version that nobody has seen, which the one event that they have says.
func TestLastEventIsSent(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context, s *apiserver.Server) {
		maps := client.Of[*corev1.ConfigMap](client.New(s.Client(request.User{Name: "watcher"}), catalog.New()))
		for range 40 {
			stream, err := maps.Watch(ctx, "", metav1.ListOptions{
				ResourceVersion: "99999999", ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, SendInitialEvents: new(true), TimeoutSeconds: new(int64(1)),
			})
			if err != nil {
				t.Fatal(err)
			}
			if ev, open := <-stream.Events(); !open || ev.Type != watch.Error {
				t.Fatalf("event = %v, %v; want an error", ev, open)
			}
			if ev, open := <-stream.Events(); open {
				t.Errorf("after the error came %v", ev)
			}
			stream.Stop()
		}
	})
}
