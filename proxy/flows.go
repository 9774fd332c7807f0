// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"

	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/proxy/rules"
)

// staleFlow selects the UDP flows to a Service that lead to something that is no longer a serving endpoint of it, or (from a time
// before there was one) to nothing.
type staleFlow struct {
	fronts map[netip.AddrPort]rules.UDPFront // by address and port; node ports have the zero address
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlow) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != nft.UDP {
		return false
	}
	dst, ok := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	if !ok {
		return false
	}
	front, ok := s.fronts[dst]
	if !ok {
		front, ok = s.fronts[netip.AddrPortFrom(zeroOf(dst.Addr()), dst.Port())]
	}
	if !ok {
		return false
	}
	target, ok := addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	if !ok {
		return false
	}
	_, serving := front.Backends[target]
	return !serving
}

func addrPort(ip net.IP, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}

// Flows forgets the stale UDP flows of this network namespace. It is Config.Flows outside tests.
func Flows(fronts []rules.UDPFront) (int, error) {
	stale := staleFlow{fronts: make(map[netip.AddrPort]rules.UDPFront, len(fronts))}
	families := map[netlink.InetFamily]bool{}
	for _, f := range fronts {
		stale.fronts[f.Front] = f
		if f.Front.Addr().Is4() {
			families[syscall.AF_INET] = true
		} else {
			families[syscall.AF_INET6] = true
		}
	}
	total := 0
	var errs error
	for family := range families {
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, stale)
		total += int(n)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("forget stale flows of family %d: %w", family, err))
		}
	}
	return total, errs
}
