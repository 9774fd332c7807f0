// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"context"
	"log/slog"
	"testing"

	"kogge.dev/kogge/client"
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
