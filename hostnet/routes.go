// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks the routes that kogge makes (field rtm_protocol), so that they can be told from all others. Numbers from
// 4 up are free to be used by routing daemons; this one is "k".
const Protocol = 107

// Route is one route of the main table.
type Route struct {
	// Dst is where it leads; the zero-length prefix of a family is the default route.
	Dst netip.Prefix
	// Via is the next hop; invalid if Dst is on the link.
	Via netip.Addr
	// Dev is the name of the link.
	Dev string
	// OnLink says that Via is reached over Dev even though no address of Dev covers it.
	OnLink bool
	// Source is the preferred source address; may be invalid.
	Source netip.Addr
}

// EnsureRoute makes or replaces the route to r.Dst.
func (h *Host) EnsureRoute(r Route) error {
	route, err := h.route(r)
	if err != nil {
		return err
	}
	if err := h.handle.RouteReplace(route); err != nil {
		return fmt.Errorf("add route to %s by %s: %w", r.Dst, r.Dev, err)
	}
	return nil
}

// DeleteRoute removes the route to dst that kogge made, if it is there.
func (h *Host) DeleteRoute(dst netip.Prefix) error {
	family := netlink.FAMILY_V4
	if dst.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	filter := &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
	list, err := h.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, route := range list {
		if p, ok := destination(route); ok && p == dst.Masked() {
			if err := h.handle.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("delete route to %s: %w", dst, err)
			}
		}
	}
	return nil
}

// Routes lists the routes that kogge made.
func (h *Host) Routes() ([]Route, error) {
	names := map[int]string{}
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	var out []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
		list, err := h.handle.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			dst, ok := destination(r)
			if !ok {
				continue
			}
			out = append(out, Route{
				Dst: dst, Via: addrOf(r.Gw), Dev: names[r.LinkIndex], Source: addrOf(r.Src),
				OnLink: r.Flags&int(netlink.FLAG_ONLINK) != 0,
			})
		}
	}
	return out, nil
}

// Lookup asks the kernel how a packet to dst would leave.
func (h *Host) Lookup(dst netip.Addr) (Route, error) {
	list, err := h.handle.RouteGet(dst.AsSlice())
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: %w", dst, err)
	}
	if len(list) == 0 {
		return Route{}, fmt.Errorf("look up route to %s: %w", dst, unix.ENETUNREACH)
	}
	link, err := h.handle.LinkByIndex(list[0].LinkIndex)
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: %w", dst, err)
	}
	return Route{Dst: netip.PrefixFrom(dst, dst.BitLen()), Via: addrOf(list[0].Gw), Dev: link.Attrs().Name, Source: addrOf(list[0].Src)}, nil
}

// DefaultRoute returns the default route of a family (4 or 6), or ErrNotFound.
func (h *Host) DefaultRoute(family int) (Route, error) {
	number, zero := netlink.FAMILY_V4, netip.IPv4Unspecified()
	if family == 6 {
		number, zero = netlink.FAMILY_V6, netip.IPv6Unspecified()
	}
	list, err := h.handle.RouteListFiltered(number, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return Route{}, fmt.Errorf("list routes: %w", err)
	}
	best := -1
	for i, r := range list {
		if dst, ok := destination(r); (!ok || dst.Bits() == 0) && r.LinkIndex > 0 && (best < 0 || r.Priority < list[best].Priority) {
			best = i
		}
	}
	if best < 0 {
		return Route{}, fmt.Errorf("default route: %w", ErrNotFound)
	}
	link, err := h.handle.LinkByIndex(list[best].LinkIndex)
	if err != nil {
		return Route{}, fmt.Errorf("default route: %w", err)
	}
	return Route{Dst: netip.PrefixFrom(zero, 0), Via: addrOf(list[best].Gw), Dev: link.Attrs().Name, Source: addrOf(list[best].Src)}, nil
}

// route translates r for the kernel.
func (h *Host) route(r Route) (*netlink.Route, error) {
	link, err := h.link(r.Dev)
	if err != nil {
		return nil, err
	}
	out := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.Dst.Masked()), Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
	if r.Via.IsValid() {
		out.Gw = r.Via.AsSlice()
	} else {
		out.Scope = netlink.SCOPE_LINK
	}
	if r.Source.IsValid() {
		out.Src = r.Source.AsSlice()
	}
	if r.OnLink {
		out.Flags |= int(netlink.FLAG_ONLINK)
	}
	return out, nil
}

// destination is the prefix of a route; the kernel leaves it out for default routes of IPv4.
func destination(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		if r.Family == netlink.FAMILY_V6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	}
	return prefixOf(r.Dst)
}
