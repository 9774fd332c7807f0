// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net/netip"

	"kogge.dev/kogge/cluster/node"
	"kogge.dev/kogge/hostnet"
)

// ownAddress is what kogge gives loopback where the machine has no network: nodes and Services need some address, and
// API objects refuse 127.0.0.0/8 and link-local ones.
var ownAddress = netip.MustParseAddr("10.255.255.1")

// addressOfNode finds this machine's address: the one set, that of the default route, the first global one, or one made on
// loopback.
func (m *machine) addressOfNode() error {
	if m.Node.IP != "" {
		m.ip = netip.MustParseAddr(m.Node.IP) // validated with the settings
		return nil
	}
	host, err := hostnet.New("")
	if err != nil {
		return err
	}
	defer host.Close()
	if err := host.SetUp("lo"); err != nil {
		return err
	}
	found, err := firstAddress(host)
	if err != nil {
		return err
	}
	if found.IsValid() {
		m.ip = found
		return nil
	}
	m.console.Log.Info("no network found; the node gets an address on loopback", "address", ownAddress.String())
	m.ip = ownAddress
	return node.EnsureAddress(m.ledger, ownAddress)
}

func firstAddress(host *hostnet.Host) (netip.Addr, error) {
	route, err := host.DefaultRoute(4)
	var names []string
	switch {
	case err == nil && route.Dev != "":
		names = append(names, route.Dev)
	case err != nil && !errors.Is(err, hostnet.ErrNotFound):
		return netip.Addr{}, fmt.Errorf("find default route: %w", err)
	}
	links, err := host.Links()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, l := range links {
		if l.Name != node.Bridge && l.Name != "lo" {
			names = append(names, l.Name)
		}
	}
	for _, name := range names {
		addresses, err := host.Addresses(name)
		if err != nil {
			return netip.Addr{}, err
		}
		for _, a := range addresses {
			if a.Addr().Is4() && a.Addr().IsGlobalUnicast() {
				return a.Addr(), nil
			}
		}
	}
	return netip.Addr{}, nil
}
