// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package node composes one node: container runtime, pod network with NetworkPolicy, kubelet, local volumes, Service proxy
// and DNS. Each is a part that can be left out, so that a part that runs alone, or beside somebody else's, is made by the same
// calls as a whole node. Everything that a node makes derives from its Config, so that several can share a machine.
package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cni"
	"kogge.dev/kogge/cni/routes"
	"kogge.dev/kogge/cri/containerd"
	"kogge.dev/kogge/ledger"
)

// Parts of a node.
type Parts struct {
	// Network is the pod network inside, with NetworkPolicy.
	Network bool
	Kubelet bool
	// Volumes keeps the folders of local volumes.
	Volumes    bool
	Proxy, DNS bool
}

// Whole is a node with all its parts.
func Whole() Parts {
	return Parts{Network: true, Kubelet: true, Volumes: true, Proxy: true, DNS: true}
}

// readers reports whether there is a part that reads the cluster by informers.
func (p Parts) readers() bool { return p.Network || p.Volumes || p.Proxy || p.DNS }

// Config of a node. What only some parts need is required for these only.
type Config struct {
	Parts Parts
	// Name of the node's object; required but for DNS.
	Name string
	// IPs are the node's addresses, at most one of each family; required but for DNS.
	IPs []netip.Addr
	// Labels and Taints to register with.
	Labels map[string]string
	Taints []corev1.Taint
	// MaxPods; 0 means 110.
	MaxPods int
	Paths   Paths
	// CRISocket of another runtime than the one inside.
	CRISocket string
	// Runtime is the one inside, which the caller runs; nil with another one, and where there is no kubelet.
	Runtime *containerd.Supervisor
	// Kubelet is a client under the identity of the node, for the kubelet and for local volumes.
	Kubelet *client.Client
	// Reader is a client under the identity of all that reads the cluster by informers: every part but the kubelet.
	Reader *client.Client
	// ClientCA judges the clients of the kubelet's server, whose certificate is Serving; nil accepts tokens only.
	ClientCA *x509.CertPool
	Serving  tls.Certificate
	// Settings are upstream's configuration of a kubelet. What the fields here say as well is filled in where it is unset.
	Settings kubeletconfig.KubeletConfiguration
	// PodCIDRs and ServiceCIDRs of the cluster.
	PodCIDRs, ServiceCIDRs []netip.Prefix
	// Domain of the cluster, and the address at which DNS answers on every node.
	Domain string
	DNS    netip.Addr
	// Proxy and Names are more settings of the Service proxy and of DNS.
	Proxy  ProxyConfig
	Names  NamesConfig
	Ledger *ledger.Ledger
	Log    *slog.Logger
	// Stage is told when a stage of the start is reached; nil tells nobody.
	Stage func(name string)
}

func (c *Config) validate() error {
	p := c.Parts
	switch {
	case c.Ledger == nil || c.Log == nil:
		return errors.New("node: ledger and log are required")
	case (p.Network || p.Kubelet || p.Volumes || p.Proxy) && (c.Name == "" || len(c.IPs) == 0):
		return errors.New("node: name and addresses are required")
	case (p.Kubelet || p.Volumes) && c.Kubelet == nil:
		return errors.New("node: the client of the kubelet is required")
	case p.readers() && c.Reader == nil:
		return errors.New("node: the client of what reads the cluster is required")
	case p.Kubelet && c.Runtime == nil && c.CRISocket == "":
		return errors.New("node: a kubelet needs a container runtime")
	}
	return nil
}

// Bridge is the name of the pod bridge.
const Bridge = "kogge0"

// Node is a composed node.
type Node struct {
	config  Config
	network *cni.Server
	router  *routes.Router
	// informers of all that reads the cluster: one set, so that a node follows each kind once. Nil without readers.
	informers *client.Informers
	// registered is closed when the kubelet works: its runtime answers and the node has its object and a lease.
	registered chan struct{}
	running    []running
}

// running is something that runs as long as the node does.
type running struct {
	name string
	run  func(context.Context) error
}

// add puts something into what Run runs.
func (n *Node) add(name string, run func(context.Context) error) {
	n.running = append(n.running, running{name, run})
}

// New composes a node. Nothing runs yet.
func New(config Config) (*Node, error) {
	if config.Stage == nil {
		config.Stage = func(string) {}
	}
	if err := config.validate(); err != nil {
		return nil, err
	}
	n := &Node{config: config, registered: make(chan struct{})}
	if config.Parts.readers() {
		n.informers = client.NewInformers(config.Reader, config.Log.With("component", "node"))
		n.add("informers", n.informers.Run)
	}
	for _, part := range []struct {
		wanted bool
		add    func() error
	}{
		{config.Parts.Network, n.addNetwork},
		{config.Parts.Network, n.addPolicy},
		{config.Parts.Proxy, n.addProxy},
		{config.Parts.DNS, n.addDNS},
		{config.Parts.Volumes, n.addVolumes},
		{config.Parts.Kubelet, n.addKubelet},
	} {
		if !part.wanted {
			continue
		}
		if err := part.add(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Run runs the node until ctx ends or a part of it can't go on. Pods, and rules in the kernel, stay when it returns.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range n.running {
		g.Go(func() error {
			if err := r.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Ready returns when the node does what its parts are for: the runtime answers, what reads the cluster knows it, and the
// kubelet's node is Ready.
func (n *Node) Ready(ctx context.Context) error {
	if n.config.Runtime != nil {
		if err := n.config.Runtime.Ready(ctx); err != nil {
			return err
		}
	}
	if n.config.Parts.Kubelet {
		// What an earlier run has written says that the node is ready before this one is.
		select {
		case <-n.registered:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := awaitReady(ctx, n.config.Kubelet, n.config.Name); err != nil {
			return err
		}
		n.config.Stage("node Ready")
		return nil
	}
	if n.informers == nil {
		return nil
	}
	return n.informers.WaitSynced(ctx)
}

// awaitReady waits for the node's Ready condition.
func awaitReady(ctx context.Context, c *client.Client, name string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	informers := client.NewInformers(c, slog.New(slog.DiscardHandler))
	seen := make(chan struct{}, 1) // one sign is enough
	look := func(n *corev1.Node) {
		if slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			select {
			case seen <- struct{}{}:
			default:
			}
		}
	}
	client.InformerFor[*corev1.Node](informers, client.Selection{FieldSelector: "metadata.name=" + name}).Handle(client.Handler[*corev1.Node]{
		Add: look, Update: func(_, n *corev1.Node) { look(n) },
	})
	done := make(chan error, 1)
	go func() { done <- informers.Run(ctx) }()
	select {
	case <-seen:
		stop()
		return <-done
	case <-ctx.Done():
		return errors.Join(ctx.Err(), <-done)
	}
}
