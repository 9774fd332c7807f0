// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/netip"
	"slices"

	"kogge.dev/kogge/dns"
	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/nft/kernel"
	"kogge.dev/kogge/proxy"
	"kogge.dev/kogge/proxy/rules"
	"kogge.dev/kogge/reconcile"
)

// ProxyConfig is what the Service proxy can be told besides what the node knows.
type ProxyConfig struct {
	// HealthAddress and MetricsAddress are listened on; empty means ":10256" and "127.0.0.1:10249".
	HealthAddress, MetricsAddress string
	// MasqueradeAll masquerades all traffic to Services.
	MasqueradeAll bool
	// NodePortCIDRs restrict which of the node's addresses answer on node ports; none means all but loopback.
	NodePortCIDRs []netip.Prefix
}

// NamesConfig is what DNS can be told besides what the node knows.
type NamesConfig struct {
	// HealthAddress is where health and metrics are served; empty means nowhere.
	HealthAddress string
	// ResolvConf lists the servers for other zones; empty means /etc/resolv.conf. Upstreams (host:port) replace it.
	ResolvConf string
	Upstreams  []string
}

// addProxy adds the Service proxy.
func (n *Node) addProxy() error {
	if err := n.config.Ledger.Record(ledger.Entry{Kind: ledger.Table, Name: "kogge-proxy"}); err != nil {
		return err
	}
	settings := n.config.Proxy
	if settings.HealthAddress == "" {
		settings.HealthAddress = ":10256"
	}
	if settings.MetricsAddress == "" {
		settings.MetricsAddress = "127.0.0.1:10249"
	}
	log := n.config.Log.With("component", "proxy")
	events := reconcile.NewRecorder(n.config.Reader, "kube-proxy", n.config.Name, log)
	p, err := proxy.New(proxy.Config{
		Rules: rules.Config{
			Node: n.config.Name, PodCIDRs: n.config.PodCIDRs, NodeAddresses: n.config.IPs,
			MasqueradeAll: settings.MasqueradeAll, NodePortCIDRs: settings.NodePortCIDRs,
		},
		Kernel: kernel.New(kernel.Config{}), Flows: proxy.Flows, Events: events,
		HealthAddress: settings.HealthAddress, MetricsAddress: settings.MetricsAddress, Log: log,
	})
	if err != nil {
		return err
	}
	n.add("proxy", events.Run)
	n.add("proxy", func(ctx context.Context) error { return p.Follow(ctx, n.informers) })
	n.add("proxy", p.Run)
	return nil
}

// addDNS adds the server of the cluster's names.
func (n *Node) addDNS() error {
	server, err := dns.New(dns.Config{
		Addresses: []string{netip.AddrPortFrom(n.config.DNS, 53).String()}, ClusterDomain: n.config.Domain,
		Reverse: append(slices.Clone(n.config.ServiceCIDRs), n.config.PodCIDRs...), Log: n.config.Log.With("component", "dns"),
		HealthAddress: n.config.Names.HealthAddress, ResolvConf: n.config.Names.ResolvConf, Upstreams: n.config.Names.Upstreams,
	})
	if err != nil {
		return err
	}
	n.add("dns", func(context.Context) error { return n.ensureDNSAddress() })
	n.add("dns", func(ctx context.Context) error { return server.Follow(ctx, n.informers) })
	n.add("dns", server.Run)
	return nil
}

// ensureDNSAddress gives the machine the address at which DNS answers, unless it has it already or DNS answers on all.
func (n *Node) ensureDNSAddress() error {
	if n.config.DNS.IsUnspecified() || n.config.DNS.IsLoopback() {
		return nil
	}
	host, err := hostnet.New("")
	if err != nil {
		return err
	}
	defer host.Close()
	links, err := host.Links()
	if err != nil {
		return err
	}
	for _, link := range links {
		addresses, err := host.Addresses(link.Name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr() == n.config.DNS }) {
			return nil
		}
	}
	return EnsureAddress(n.config.Ledger, n.config.DNS)
}
