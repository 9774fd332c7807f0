// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/scheduler"
)

// Names of the scheduler's identity and lease.
const (
	schedulerUser  = "system:kube-scheduler"
	SchedulerLease = "kube-scheduler"
)

// SchedulerConfig is what a scheduler needs besides an API server; it may run in a process of its own.
type SchedulerConfig struct {
	Client   *client.Client
	Log      *slog.Logger
	Identity string
	// Settings, nil for the defaults.
	Settings *scheduler.Settings
	// Vitals are told how it goes; nil tells nobody.
	Vitals *Vitals
}

// RunScheduler stands for leadership and schedules while it leads.
func RunScheduler(ctx context.Context, config SchedulerConfig) error {
	elect := reconcile.ElectConfig{
		Client: config.Client, Log: config.Log, Namespace: "kube-system", Name: SchedulerLease, Identity: config.Identity,
	}
	return reconcile.Elect(ctx, elect, func(ctx context.Context) error {
		log := config.Log.With("component", "scheduler")
		informers := client.NewInformers(config.Client, log)
		events := reconcile.NewRecorder(config.Client, "default-scheduler", "", log)
		s, err := scheduler.New(scheduler.Config{
			Client: config.Client, Informers: informers, Events: events, Log: log, Settings: config.Settings,
		})
		if err != nil {
			return err
		}
		defer config.Vitals.lead(informers)()
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return informers.Run(ctx) })
		g.Go(func() error { return events.Run(ctx) })
		g.Go(func() error { return s.Run(ctx) })
		return g.Wait()
	})
}
