// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package node composes one node: container runtime, pod network, kubelet, Service proxy, NetworkPolicy and DNS, each
// with its own identity. Everything that a node makes derives from its Config, so that several can share a machine.
package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cni"
	"kogge.dev/kogge/cni/follow"
	"kogge.dev/kogge/cni/routes"
	"kogge.dev/kogge/controllers/localvolume/nodeside"
	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd"
	"kogge.dev/kogge/dns"
	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/internal/version"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kubelet"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/netpol"
	"kogge.dev/kogge/nft/kernel"
	"kogge.dev/kogge/proxy"
	"kogge.dev/kogge/proxy/rules"
	"kogge.dev/kogge/reconcile"
)

// Config of a node.
type Config struct {
	// Name of the node's object; required.
	Name string
	// IPs are the node's addresses, at most one of each family; required.
	IPs []netip.Addr
	// Labels and Taints to register with.
	Labels map[string]string
	Taints []corev1.Taint
	// MaxPods; 0 means 110.
	MaxPods int
	Paths   Paths
	// CRISocket of another runtime than the one inside.
	CRISocket string
	// Runtime is the one inside, which the caller runs; required without CRISocket.
	Runtime *containerd.Supervisor
	// Kubelet and Proxy are clients under the identities of the node and of its Service proxy; required.
	Kubelet, Proxy *client.Client
	// ClientCA judges the clients of the kubelet's server, whose certificate is Serving.
	ClientCA *x509.CertPool
	Serving  tls.Certificate
	// PodCIDRs and ServiceCIDRs of the cluster.
	PodCIDRs, ServiceCIDRs []netip.Prefix
	// Domain of the cluster, and the address at which DNS answers on every node.
	Domain string
	DNS    netip.Addr
	Ledger *ledger.Ledger
	Log    *slog.Logger
	// Stage is told when a stage of the start is reached; nil tells nobody.
	Stage func(name string)
}

// StageRegistered is the stage at which the kubelet works: its runtime answers and the node has its object and a lease.
const StageRegistered = "node registered"

// Bridge is the name of the pod bridge.
const Bridge = "kogge0"

// Node is a composed node.
type Node struct {
	config  Config
	network *cni.Server
	router  *routes.Router
	proxy   *proxy.Proxy
	dns     *dns.Server
	policy  *netpol.Enforcer
	volumes *nodeside.Driver
	// informers of the proxy, the pod network, NetworkPolicy and DNS: one set, so that a node follows each kind once.
	informers *client.Informers
}

// Containerd returns the settings of the bundled runtime for a node's paths.
func Containerd(paths Paths, name string, log *slog.Logger) containerd.Config {
	return containerd.Config{
		DataDir: filepath.Join(paths.Data, "containerd"), RunDir: filepath.Join(paths.Run, "ctd"), NodeName: name,
		CgroupRoot: paths.Cgroup + name,
		CNIConfDir: paths.CNIConf, CNIBinDirs: []string{paths.CNIBin}, Logger: log,
	}
}

// Runtime makes the bundled container runtime of a node. It needs nothing of a cluster: who runs it while the API server starts
// has the node ready sooner. The folders that it looks into, and would make, are entered into the ledger first.
func Runtime(paths Paths, name string, l *ledger.Ledger, log *slog.Logger) (*containerd.Supervisor, error) {
	if err := ensureFolders(l, paths.CNIConf, paths.CNIBin); err != nil {
		return nil, err
	}
	return containerd.New(Containerd(paths, name, log.With("component", "containerd")))
}

// Network returns the settings of the pod network for a node's paths.
func Network(paths Paths, l *ledger.Ledger, log *slog.Logger) cni.Config {
	return cni.Config{
		DataDir: filepath.Join(paths.Data, "network"), Socket: filepath.Join(paths.Run, "cni.sock"),
		ConfDir: paths.CNIConf, BinDir: paths.CNIBin, Bridge: Bridge, Ledger: l, Logger: log,
	}
}

// New composes a node. Nothing runs yet.
func New(config Config) (*Node, error) {
	if config.Name == "" || len(config.IPs) == 0 || config.Kubelet == nil || config.Proxy == nil || config.Ledger == nil {
		return nil, errors.New("node: name, addresses, clients and ledger are required")
	}
	if config.CRISocket == "" && config.Runtime == nil {
		return nil, errors.New("node: a container runtime is required")
	}
	if config.Stage == nil {
		config.Stage = func(string) {}
	}
	for _, table := range []string{"kogge-proxy", "kogge-netpol"} {
		if err := config.Ledger.Record(ledger.Entry{Kind: ledger.Table, Name: table}); err != nil {
			return nil, err
		}
	}
	if err := ensureFolders(config.Ledger, config.Paths.Manifests, config.Paths.CNIConf, config.Paths.CNIBin); err != nil {
		return nil, err
	}
	n := &Node{config: config, informers: client.NewInformers(config.Proxy, config.Log.With("component", "proxy"))}
	var err error
	network := Network(config.Paths, config.Ledger, config.Log.With("component", "cni"))
	network.ClusterCIDRs = config.PodCIDRs
	if n.network, err = cni.New(network); err != nil {
		return nil, err
	}
	n.router, err = routes.New(routes.Config{
		ClusterCIDRs: config.PodCIDRs, Bridge: Bridge, Ledger: config.Ledger, Logger: config.Log.With("component", "cni"),
	})
	if err != nil {
		return nil, err
	}
	n.proxy, err = proxy.New(proxy.Config{
		Rules: rules.Config{
			Node: config.Name, PodCIDRs: config.PodCIDRs, NodeAddresses: config.IPs, Answered: []netip.Addr{config.DNS},
		},
		Kernel: kernel.New(kernel.Config{}), Flows: proxy.Flows, HealthAddress: ":10256", MetricsAddress: "127.0.0.1:10249",
		Log: config.Log.With("component", "proxy"),
	})
	if err != nil {
		return nil, err
	}
	n.dns, err = dns.New(dns.Config{
		Addresses: []string{netip.AddrPortFrom(config.DNS, 53).String()}, ClusterDomain: config.Domain,
		Reverse: append(slices.Clone(config.ServiceCIDRs), config.PodCIDRs...), Log: config.Log.With("component", "dns"),
	})
	if err != nil {
		return nil, err
	}
	n.volumes, err = nodeside.New(nodeside.Config{
		NodeName: config.Name, Root: filepath.Join(config.Paths.Data, "volumes"), Informers: n.informers, Client: config.Kubelet,
		Log: config.Log.With("component", "volumes"),
	})
	if err != nil {
		return nil, err
	}
	n.policy, err = netpol.New(netpol.Config{
		Node: config.Name, Kernel: kernel.New(kernel.Config{}), Log: config.Log.With("component", "netpol"),
	})
	return n, err
}

// Run runs the node until ctx ends or a part of it can't go on. Pods stay when it returns.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	socket := n.config.CRISocket
	if socket == "" {
		socket = n.config.Runtime.Socket()
	}
	g.Go(func() error { return named("cni", n.network.Run(ctx)) })
	g.Go(func() error { return named("informers", n.informers.Run(ctx)) })
	g.Go(func() error { return named("proxy", n.proxy.Follow(ctx, n.informers)) })
	g.Go(func() error { return named("proxy", n.proxy.Run(ctx)) })
	g.Go(func() error { return named("dns", n.runDNS(ctx)) })
	g.Go(func() error { return named("netpol", n.policy.Follow(ctx, n.informers)) })
	g.Go(func() error { return named("netpol", n.policy.Run(ctx)) })
	g.Go(func() error { return named("volumes", n.volumes.Run(ctx)) })
	g.Go(func() error {
		defer n.router.Close()
		return named("cni", follow.Run(ctx, follow.Config{
			NodeName: n.config.Name, Nodes: client.InformerFor[*corev1.Node](n.informers), Configure: n.configureNetwork,
			Router: n.router, Logger: n.config.Log.With("component", "cni"),
		}))
	})
	g.Go(func() error { return named("kubelet", n.runKubelet(ctx, socket)) })
	return g.Wait()
}

// configureNetwork gives this node its pod ranges, and leads Service addresses to the bridge: the kernel looks for a route
// before the node's own packets meet the rules that know where Services are.
func (n *Node) configureNetwork(ctx context.Context, podCIDRs []netip.Prefix) error {
	if err := n.network.Configure(ctx, podCIDRs); err != nil {
		return err
	}
	host, err := hostnet.New("")
	if err != nil {
		return err
	}
	defer host.Close()
	for _, services := range n.config.ServiceCIDRs {
		if err := n.config.Ledger.Record(ledger.Entry{Kind: ledger.Route, Name: services.String()}); err != nil {
			return err
		}
		if err := host.EnsureRoute(hostnet.Route{Dst: services, Dev: Bridge}); err != nil {
			return err
		}
	}
	return nil
}

// runDNS gives this node the cluster's DNS address and answers there.
func (n *Node) runDNS(ctx context.Context) error {
	if err := EnsureAddress(n.config.Ledger, n.config.DNS); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.dns.Follow(ctx, n.informers) })
	g.Go(func() error { return n.dns.Run(ctx) })
	return g.Wait()
}

func (n *Node) runKubelet(ctx context.Context, socket string) error {
	if n.config.CRISocket == "" {
		if err := n.config.Runtime.Ready(ctx); err != nil {
			return client.Ended(ctx, err)
		}
	}
	n.config.Stage("container runtime")
	runtime, err := cri.Connect(ctx, socket)
	if err != nil {
		return err
	}
	defer runtime.Close()
	events := reconcile.NewRecorder(n.config.Kubelet, "kubelet", n.config.Name, n.config.Log.With("component", "kubelet"))
	k, err := kubelet.New(kubelet.Config{
		NodeName: n.config.Name, NodeIPs: n.config.IPs, Labels: n.config.Labels, Client: n.config.Kubelet, Runtime: runtime,
		Recorder: recorder{events}, Logger: n.config.Log.With("component", "kubelet"), Settings: n.settings(),
		Root: n.config.Paths.Kubelet, PodLogs: n.config.Paths.PodLogs, ContainerLogs: n.config.Paths.ContainerLogs,
		CgroupRoot: n.config.Paths.Cgroup + n.config.Name,
		ServerTLS:  &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{n.config.Serving}},
		ClientCA:   n.config.ClientCA, Version: version.Kubernetes,
		OnRegistered: func() { n.config.Stage(StageRegistered) },
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return events.Run(ctx) })
	g.Go(func() error { return k.Run(ctx) })
	return g.Wait()
}

func (n *Node) settings() kubeletconfig.KubeletConfiguration {
	return kubeletconfig.KubeletConfiguration{
		StaticPodPath: n.config.Paths.Manifests, MaxPods: int32(n.config.MaxPods), RegisterWithTaints: n.config.Taints,
		ClusterDNS: []string{n.config.DNS.String()}, ClusterDomain: n.config.Domain,
	}
}

// recorder gives the kubelet's events to the recorder of the runtime of control loops.
type recorder struct{ events *reconcile.Recorder }

func (r recorder) Event(obj runtime.Object, kind, reason, message string) {
	switch about := obj.(type) {
	case kinds.Object:
		r.events.Event(about, kind, reason, "%s", message)
	case *corev1.ObjectReference:
		r.events.EventAbout(*about, kind, reason, "%s", message)
	}
}

// ensureFolders calls ensureFolder for each.
func ensureFolders(l *ledger.Ledger, dirs ...string) error {
	for _, dir := range dirs {
		if err := ensureFolder(l, dir); err != nil {
			return err
		}
	}
	return nil
}

// ensureFolder makes a folder that foreign software shares with us, and enters it and every parent that was missing into
// the ledger: a reset removes those that are empty again.
func ensureFolder(l *ledger.Ledger, dir string) error {
	if _, err := os.Stat(dir); err == nil || dir == "/" {
		return nil
	}
	if err := ensureFolder(l, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := l.Record(ledger.Entry{Kind: ledger.Folder, Name: dir}); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make folder: %w", err)
	}
	return nil
}

// EnsureAddress gives loopback an address that every node answers itself, such as the cluster's DNS address.
func EnsureAddress(l *ledger.Ledger, address netip.Addr) error {
	host, err := hostnet.New("")
	if err != nil {
		return err
	}
	defer host.Close()
	prefix := netip.PrefixFrom(address, address.BitLen())
	if err := l.Record(ledger.Entry{Kind: ledger.Address, Name: "lo " + prefix.String()}); err != nil {
		return err
	}
	if err := host.SetUp("lo"); err != nil {
		return err
	}
	return host.EnsureAddress("lo", prefix)
}

func named(component string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", component, err)
	}
	return nil
}
