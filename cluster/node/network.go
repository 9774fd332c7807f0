// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cni"
	"kogge.dev/kogge/cni/follow"
	"kogge.dev/kogge/cni/routes"
	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/netpol"
	"kogge.dev/kogge/nft/kernel"
)

// Network returns the settings of the pod network for a node's paths.
func Network(paths Paths, l *ledger.Ledger, log *slog.Logger) cni.Config {
	return cni.Config{
		DataDir: filepath.Join(paths.Data, "network"), Socket: filepath.Join(paths.Run, "cni.sock"),
		ConfDir: paths.CNIConf, BinDir: paths.CNIBin, Bridge: Bridge, Ledger: l, Logger: log,
	}
}

// addNetwork adds the pod network and the routes to other nodes.
func (n *Node) addNetwork() error {
	if err := ensureFolders(n.config.Ledger, n.config.Paths.CNIConf, n.config.Paths.CNIBin); err != nil {
		return err
	}
	log := n.config.Log.With("component", "cni")
	network := Network(n.config.Paths, n.config.Ledger, log)
	network.ClusterCIDRs = n.config.PodCIDRs
	var err error
	if n.network, err = cni.New(network); err != nil {
		return err
	}
	n.router, err = routes.New(routes.Config{ClusterCIDRs: n.config.PodCIDRs, Bridge: Bridge, Ledger: n.config.Ledger, Logger: log})
	if err != nil {
		return err
	}
	n.add("cni", n.network.Run)
	n.add("cni", func(ctx context.Context) error {
		defer n.router.Close()
		return follow.Run(ctx, follow.Config{
			NodeName: n.config.Name, Nodes: client.InformerFor[*corev1.Node](n.informers), Configure: n.configureNetwork,
			Router: n.router, Logger: log,
		})
	})
	return nil
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

// addPolicy adds NetworkPolicy.
func (n *Node) addPolicy() error {
	if err := n.config.Ledger.Record(ledger.Entry{Kind: ledger.Table, Name: "kogge-netpol"}); err != nil {
		return err
	}
	policy, err := netpol.New(netpol.Config{
		Node: n.config.Name, Kernel: kernel.New(kernel.Config{}), Log: n.config.Log.With("component", "netpol"),
	})
	if err != nil {
		return err
	}
	n.add("netpol", func(ctx context.Context) error { return policy.Follow(ctx, n.informers) })
	n.add("netpol", policy.Run)
	return nil
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
