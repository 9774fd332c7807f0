// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package follow drives the pod network of a node by Node objects: the node's own pod ranges configure its bridge and
// addresses, the other nodes' ranges and addresses become routes.
package follow

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cni/routes"
)

// retryFirst and retryLast bound the pause after a failed attempt.
const (
	retryFirst = 200 * time.Millisecond
	retryLast  = 30 * time.Second
)

// Config of Run; all fields but Logger are required.
type Config struct {
	// NodeName is this node.
	NodeName string
	// Nodes follows all nodes.
	Nodes *client.Informer[*corev1.Node]
	// Configure gives this node its pod ranges: cni.Server.Configure.
	Configure func(context.Context, []netip.Prefix) error
	// Router keeps the routes to the other nodes.
	Router *routes.Router
	// Logger; default discards.
	Logger *slog.Logger
}

// Run acts upon nodes until ctx ends.
func Run(ctx context.Context, config Config) error {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	nodes := config.Nodes
	// One pending wake is enough: each pass reads everything.
	wake := make(chan struct{}, 1)
	signal := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	nodes.Handle(client.Handler[*corev1.Node]{
		Add:    func(*corev1.Node) { signal() },
		Update: func(was, is *corev1.Node) { signalChanged(was, is, signal) },
		Delete: func(*corev1.Node) { signal() },
	})
	select {
	case <-ctx.Done():
		return nil
	case <-nodes.Synced():
	}
	signal()
	var done view
	delay := retryFirst
	for {
		var retry <-chan time.Time
		want := look(config.NodeName, nodes.List(""))
		if !reflect.DeepEqual(want, done) {
			if err := apply(ctx, config, want); err != nil {
				config.Logger.Warn("pod network is not as the nodes say", "err", err, "delay", delay)
				retry = time.After(delay)
				delay = min(2*delay, retryLast)
			} else {
				done, delay = want, retryFirst
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-retry:
		}
	}
}

// signalChanged wakes only for what matters here: status heartbeats do not.
func signalChanged(was, is *corev1.Node, signal func()) {
	if !reflect.DeepEqual(describe(was), describe(is)) {
		signal()
	}
}

// view is all nodes, as far as they matter here.
type view struct {
	// known says that this node's object was there.
	known bool
	self  routes.Node
	peers []routes.Node
}

// look reduces node objects to a view.
func look(nodeName string, list []*corev1.Node) view {
	var v view
	for _, n := range list {
		if n.Name == nodeName {
			v.known, v.self = true, describe(n)
		} else {
			v.peers = append(v.peers, describe(n))
		}
	}
	slices.SortFunc(v.peers, func(a, b routes.Node) int { return strings.Compare(a.Name, b.Name) })
	return v
}

// describe reads a node object; what cannot be parsed is left out.
func describe(n *corev1.Node) routes.Node {
	out := routes.Node{Name: n.Name}
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out.Addresses = append(out.Addresses, addr.Unmap())
		}
	}
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	for _, c := range cidrs {
		if p, err := netip.ParsePrefix(c); err == nil {
			out.PodCIDRs = append(out.PodCIDRs, p.Masked())
		}
	}
	return out
}

// apply makes the node's network as the view says. Before this node has ranges there is nothing to do: the object changes
// when it gets them.
func apply(ctx context.Context, config Config, v view) error {
	if !v.known || len(v.self.PodCIDRs) == 0 {
		return nil
	}
	if err := config.Configure(ctx, v.self.PodCIDRs); err != nil {
		return err
	}
	var peers []routes.Node
	for _, p := range v.peers {
		if len(p.PodCIDRs) > 0 && len(p.Addresses) > 0 {
			peers = append(peers, p)
		}
	}
	if err := config.Router.Sync(ctx, v.self, peers); err != nil {
		return fmt.Errorf("pod routes: %w", err)
	}
	return nil
}
