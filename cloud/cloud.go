// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cloud keeps a cluster in step with the machines, load balancers and routes of wherever it runs: the loops of the
// cloud controller manager over a small contract. Package local is the provider for clusters that have no cloud.
package cloud

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// Provider is what a cloud can do. A nil part is not offered, and its loop does not run. All methods are called from
// several goroutines, may block, must be idempotent, and must not change the objects that they are given.
type Provider struct {
	// Name of the provider, required.
	Name          string
	Instances     Instances
	LoadBalancers LoadBalancers
	Routes        Routes
}

// ErrNoInstance is returned by Instances for a node whose machine no longer exists. Its Node object is then deleted, so
// it must not be returned when the provider merely doesn't know.
var ErrNoInstance = errors.New("instance does not exist")

// Instances knows the machines behind nodes.
type Instances interface {
	// Instance returns what the provider knows of a node's machine, or an error that wraps ErrNoInstance.
	Instance(ctx context.Context, node *corev1.Node) (Instance, error)
}

// Instance is one machine. Empty fields say nothing.
type Instance struct {
	ProviderID         string
	Type, Zone, Region string
	Addresses          []corev1.NodeAddress
	Labels             map[string]string
	// Shutdown: the machine exists but does not run.
	Shutdown bool
}

// LoadBalancers gives Services addresses that are reached from outside.
type LoadBalancers interface {
	// Class is the loadBalancerClass of the provider besides the empty one; empty if it has none.
	Class() string
	// Ensure makes or updates a Service's load balancer, which leads to the given nodes, and returns how it is reached.
	Ensure(ctx context.Context, service *corev1.Service, nodes []*corev1.Node) (corev1.LoadBalancerStatus, error)
	// Delete removes it. One that does not exist is no error.
	Delete(ctx context.Context, service *corev1.Service) error
}

// Routes leads the pod ranges of nodes to them.
type Routes interface {
	List(ctx context.Context) ([]Route, error)
	Create(ctx context.Context, route Route) error
	Delete(ctx context.Context, route Route) error
}

// Route leads a pod range to a node.
type Route struct {
	// Node is empty for routes of nodes that the provider does not know any more.
	Node        string
	Addresses   []corev1.NodeAddress
	Destination string
}

// Config of the loops. All fields are required.
type Config struct {
	// Client acts as the cloud controller manager. Informers read with it and are run by Run.
	Client    *client.Client
	Informers *client.Informers
	Provider  Provider
	Log       *slog.Logger
}

// Run runs the loops of what the provider offers until ctx ends. The caller makes sure that only one process does.
func Run(ctx context.Context, config Config) error {
	if config.Client == nil || config.Informers == nil || config.Provider.Name == "" || config.Log == nil {
		return errors.New("cloud: client, informers, provider and log are required")
	}
	g, ctx := errgroup.WithContext(ctx)
	scope := func(name string) reconcile.Scope {
		log := config.Log.With("component", name)
		events := reconcile.NewRecorder(config.Client, name, "", log)
		g.Go(func() error { return events.Run(ctx) })
		return reconcile.Scope{Client: config.Client, Informers: config.Informers, Events: events, Log: log}
	}
	var loops []*reconcile.Loop
	if config.Provider.Instances != nil {
		loops = append(loops, newNodes(scope("cloud-node-controller"), config.Provider.Instances))
	}
	if config.Provider.LoadBalancers != nil {
		loops = append(loops, newServices(scope("service-controller"), config.Provider.LoadBalancers))
	}
	if config.Provider.Routes != nil {
		loops = append(loops, newRoutes(scope("route-controller"), config.Provider.Routes))
	}
	for _, loop := range loops {
		g.Go(func() error { return loop.Run(ctx) })
	}
	g.Go(func() error { return config.Informers.Run(ctx) })
	return g.Wait()
}
