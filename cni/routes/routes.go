// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package routes leads each node's packets to the pods of the others: a plain route where the other node is on the same
// link, a VXLAN tunnel where a router lies between.
//
//	same link:   10.244.2.0/24 via 192.0.2.7 dev eth0
//	elsewhere:   10.244.2.0/24 via 10.244.2.0 dev kogge-vx onlink, a neighbour and a forwarding entry for 10.244.2.0
//
// The tunnel learns nothing and asks nobody: the hardware address of a node's device follows from its pod range, so that
// Node objects hold all that is needed.
package routes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/ledger"
)

// Node is what a node tells about itself in its object.
type Node struct {
	Name string
	// Addresses are its internal addresses.
	Addresses []netip.Addr
	// PodCIDRs are its pod ranges, at most one per family.
	PodCIDRs []netip.Prefix
}

// Config of a Router.
type Config struct {
	// NetNS is the path of the node's network namespace; empty for that of this process.
	NetNS string
	// ClusterCIDRs are the ranges of all pods. Routes of ours inside of them that no node asks for are removed.
	ClusterCIDRs []netip.Prefix
	// Bridge is the pod bridge; addresses behind it are no other nodes.
	Bridge string
	// Tunnel is the name of the tunnel device; default kogge-vx.
	Tunnel string
	// TunnelID is the VXLAN network identifier; default 1.
	TunnelID int
	// TunnelPort is the UDP port; default 8472, which most firewalls for pod networks know.
	TunnelPort int
	// Ledger records what is made. Required.
	Ledger *ledger.Ledger
	// Logger; default discards.
	Logger *slog.Logger
}

// Router keeps the routes of one node. It is used by one goroutine.
type Router struct {
	config Config
	host   *hostnet.Host
}

// New opens the node's network. Close releases it.
func New(config Config) (*Router, error) {
	config.Tunnel = cmp.Or(config.Tunnel, "kogge-vx")
	config.TunnelID = cmp.Or(config.TunnelID, 1)
	config.TunnelPort = cmp.Or(config.TunnelPort, 8472)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Ledger == nil {
		return nil, errors.New("pod routes: Ledger is required")
	}
	host, err := hostnet.New(config.NetNS)
	if err != nil {
		return nil, err
	}
	return &Router{config: config, host: host}, nil
}

// Close releases the network; routes stay.
func (r *Router) Close() error { return r.host.Close() }

// plan is what shall be.
type plan struct {
	// direct routes by way of a neighbour; tunnelled ones by way of the device.
	direct, tunnelled []hostnet.Route
	peers             []hostnet.TunnelPeer
	// local is this end of the tunnel.
	local netip.Addr
}

// Sync makes the routes to the pods of all peers, and removes those to nodes that are gone. A peer that cannot be reached
// does not keep the others from being served; the error then names it.
func (r *Router) Sync(_ context.Context, self Node, peers []Node) error {
	p, planErr := makePlan(self, peers, r.config.Tunnel, r.onLink)
	if err := r.tunnel(self, p); err != nil {
		return errors.Join(planErr, err)
	}
	errs := []error{planErr}
	for _, route := range p.direct {
		errs = append(errs, r.config.Ledger.Record(entry(route)), r.host.EnsureRoute(route))
	}
	for _, route := range p.tunnelled {
		errs = append(errs, r.host.EnsureRoute(route))
	}
	errs = append(errs, r.removeStale(append(p.direct, p.tunnelled...)))
	return errors.Join(errs...)
}

func entry(route hostnet.Route) ledger.Entry {
	return ledger.Entry{Kind: ledger.Route, Name: route.Dst.String()}
}

// onLink returns the link on which an address is a neighbour, or "" if a router lies between.
func (r *Router) onLink(a netip.Addr) (string, error) {
	route, err := r.host.Lookup(a)
	if err != nil {
		return "", err
	}
	if route.Via.IsValid() || route.Dev == "lo" || route.Dev == r.config.Bridge || route.Dev == r.config.Tunnel {
		return "", nil
	}
	return route.Dev, nil
}

// makePlan decides how each pod range of each peer is reached.
func makePlan(self Node, peers []Node, tunnel string, onLink func(netip.Addr) (string, error)) (plan, error) {
	var p plan
	var errs []error
	for _, peer := range peers {
		tunnelled := hostnet.TunnelPeer{}
		var far []hostnet.Route
		for _, dst := range peer.PodCIDRs {
			via, dev, err := neighbour(peer, dst, onLink)
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("route to pods of node %s: %w", peer.Name, err))
			case dev != "":
				p.direct = append(p.direct, hostnet.Route{Dst: dst, Via: via, Dev: dev})
			default:
				tunnelled.Addresses = append(tunnelled.Addresses, dst.Masked().Addr())
				far = append(far, hostnet.Route{Dst: dst, Via: dst.Masked().Addr(), Dev: tunnel, OnLink: true})
			}
		}
		if len(tunnelled.Addresses) == 0 {
			continue
		}
		local, remote, ok := underlay(self, peer)
		if !ok {
			errs = append(errs, fmt.Errorf("route to pods of node %s: it shares no address family with this node", peer.Name))
			continue
		}
		p.local, p.tunnelled = local, append(p.tunnelled, far...)
		tunnelled.Remote, tunnelled.MAC = remote, deviceMAC(peer.PodCIDRs)
		p.peers = append(p.peers, tunnelled)
	}
	return p, errors.Join(errs...)
}

// neighbour finds an address of the peer, of the family of dst, that is on a link of this node. No device means that the
// tunnel must be taken.
func neighbour(peer Node, dst netip.Prefix, onLink func(netip.Addr) (string, error)) (netip.Addr, string, error) {
	var failed error
	for _, a := range peer.Addresses {
		if a.Is4() != dst.Addr().Is4() {
			continue
		}
		dev, err := onLink(a)
		if err != nil {
			failed = err
			continue
		}
		return a, dev, nil
	}
	return netip.Addr{}, "", failed
}

// underlay chooses the two ends of the tunnel: addresses of one family, IPv4 if both have it.
func underlay(self, peer Node) (local, remote netip.Addr, ok bool) {
	for _, four := range []bool{true, false} {
		same := func(a netip.Addr) bool { return a.Is4() == four }
		i, j := slices.IndexFunc(self.Addresses, same), slices.IndexFunc(peer.Addresses, same)
		if i >= 0 && j >= 0 {
			return self.Addresses[i], peer.Addresses[j], true
		}
	}
	return netip.Addr{}, netip.Addr{}, false
}

// deviceMAC is the hardware address of a node's tunnel device: locally administered, and as unique as its first pod range,
// whose IPv4 address or hash it holds.
func deviceMAC(podCIDRs []netip.Prefix) net.HardwareAddr {
	mac := net.HardwareAddr{0x0e, 0x58}
	if len(podCIDRs) == 0 {
		return append(mac, 0, 0, 0, 0)
	}
	b := podCIDRs[0].Masked().Addr().AsSlice()
	if len(b) == 4 {
		return append(mac, b...)
	}
	h := fnv.New32a()
	_, _ = h.Write(b)
	return h.Sum(mac)
}

// tunnel makes the tunnel device and its peers, or removes what is not needed any more.
func (r *Router) tunnel(self Node, p plan) error {
	device := ledger.Entry{Kind: ledger.Link, Name: r.config.Tunnel}
	if len(p.peers) == 0 {
		if !slices.Contains(r.config.Ledger.Entries(), device) {
			return nil
		}
		if err := r.host.DeleteLink(r.config.Tunnel); err != nil {
			return err
		}
		return r.config.Ledger.Forget(device)
	}
	if err := r.config.Ledger.Record(device); err != nil {
		return err
	}
	v := hostnet.VXLAN{Name: r.config.Tunnel, ID: r.config.TunnelID, Local: p.local, Port: r.config.TunnelPort, MAC: deviceMAC(self.PodCIDRs)}
	for _, own := range self.PodCIDRs {
		first := own.Masked().Addr()
		v.Addresses = append(v.Addresses, netip.PrefixFrom(first, first.BitLen()))
	}
	v.MTU = r.tunnelMTU(p.local)
	if err := r.host.EnsureVXLAN(v); err != nil {
		return err
	}
	var keep []net.HardwareAddr
	for _, peer := range p.peers {
		if err := r.host.EnsureTunnelPeer(r.config.Tunnel, peer); err != nil {
			return err
		}
		keep = append(keep, peer.MAC)
	}
	slices.SortFunc(keep, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
	return r.host.KeepTunnelPeers(r.config.Tunnel, keep)
}

// tunnelMTU is the MTU of the link that has the local address, less the tunnel's headers; 0 if unknown.
func (r *Router) tunnelMTU(local netip.Addr) int {
	headers := 50
	if local.Is6() {
		headers = 70
	}
	links, err := r.host.Links()
	if err != nil {
		return 0
	}
	for _, l := range links {
		addresses, err := r.host.Addresses(l.Name)
		if err != nil || l.Name == "lo" {
			continue
		}
		if slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr() == local }) {
			return l.MTU - headers
		}
	}
	return 0
}

// removeStale removes our routes into the cluster's pod ranges that are not wanted.
func (r *Router) removeStale(want []hostnet.Route) error {
	have, err := r.host.Routes()
	if err != nil {
		return err
	}
	var errs []error
	for _, route := range have {
		inside := slices.ContainsFunc(r.config.ClusterCIDRs, func(c netip.Prefix) bool {
			return c.Bits() < route.Dst.Bits() && c.Contains(route.Dst.Addr())
		})
		if !inside || slices.ContainsFunc(want, func(w hostnet.Route) bool { return w.Dst.Masked() == route.Dst }) {
			continue
		}
		r.config.Logger.Info("route to a node that is gone is removed", "dst", route.Dst.String())
		if err := r.host.DeleteRoute(route.Dst); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, r.config.Ledger.Forget(entry(route)))
	}
	return errors.Join(errs...)
}
