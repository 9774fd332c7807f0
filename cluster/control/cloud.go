// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"net/netip"

	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cloud"
	"kogge.dev/kogge/cloud/local"
	"kogge.dev/kogge/reconcile"
)

// CloudLease is what the cloud loops stand for.
const CloudLease = "cloud-controller-manager"

// CloudConfig is what the cloud loops need besides an API server; they may run in a process of their own.
type CloudConfig struct {
	// Client acts as the cloud controller manager.
	Client *client.Client
	Log    *slog.Logger
	// Identity stands for leadership.
	Identity string
	// Pool and Reserved are the built-in provider's: where load balancers get addresses, and ports of nodes that they don't.
	Pool     []netip.Prefix
	Reserved []int32
	// Vitals are told how it goes; nil tells nobody.
	Vitals *Vitals
}

func (p *Plane) runCloud(ctx context.Context) error {
	return RunCloud(ctx, CloudConfig{
		Client: p.Client(bootstrap.CloudUser), Log: p.config.Log, Identity: p.config.Identity, Reserved: []int32{int32(p.config.Port)},
	})
}

// RunCloud stands for leadership and runs the cloud loops with the built-in provider while it leads.
func RunCloud(ctx context.Context, config CloudConfig) error {
	elect := reconcile.ElectConfig{
		Client: config.Client, Log: config.Log.With("component", "cloud"), Namespace: "kube-system", Name: CloudLease, Identity: config.Identity,
	}
	return reconcile.Elect(ctx, elect, func(ctx context.Context) error {
		informers := client.NewInformers(config.Client, config.Log.With("component", "cloud"))
		provider, err := local.New(local.Config{Informers: informers, Pool: config.Pool, Reserved: config.Reserved})
		if err != nil {
			return err
		}
		defer config.Vitals.lead(informers)()
		return cloud.Run(ctx, cloud.Config{Client: config.Client, Informers: informers, Provider: provider, Log: config.Log})
	})
}
