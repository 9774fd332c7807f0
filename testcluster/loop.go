// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/reconcile"
)

// RunLoop runs one controller until the test ends, in a cluster that was made without controllers. It follows the cluster through view, a
// client over a Lag, say, and reads and writes through own.
func RunLoop(t testing.TB, view, own *client.Client, newLoop func(reconcile.Scope) *reconcile.Loop) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	informers := client.NewInformers(view, log)
	events := reconcile.NewRecorder(own, "test", "", log)
	loop := newLoop(reconcile.Scope{Client: own, Informers: informers, Events: events, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	runs := []func(context.Context) error{informers.Run, events.Run, loop.Run}
	ended := make(chan error, len(runs))
	for _, run := range runs {
		go func() { ended <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range runs {
			if err := <-ended; err != nil {
				t.Errorf("controller ended: %v", err)
			}
		}
	})
}

// RunAlone runs one controller, and nothing else that acts, in a new cluster in whose namespace default pods can be made. It sees the resource
// late through what is returned. It returns when the controller works, and is for synctest bubbles.
func RunAlone(t testing.TB, late string, newLoop func(reconcile.Scope) *reconcile.Loop) (*client.Client, *Lag) {
	t.Helper()
	c := New(t, Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "default"}}
	if _, err := client.Of[*corev1.ServiceAccount](c).Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	lag := &Lag{Backend: c.Backend(), Resource: late}
	RunLoop(t, client.New(lag, c.Catalog()), c, newLoop)
	synctest.Wait()
	return c, lag
}
