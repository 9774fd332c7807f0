// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge is a bridge as it shall be. Addresses that it has beyond Addresses are removed, link-local ones excepted.
type Bridge struct {
	Name string
	// MTU in bytes; 0 leaves the kernel's choice.
	MTU int
	// MAC is the bridge's own; without one it changes with its ports, and neighbours remember a stale one.
	MAC net.HardwareAddr
	// Addresses of the host on the bridge, with the length of the prefix that is on it.
	Addresses []netip.Prefix
}

// EnsureBridge makes a bridge, up, as described.
func (h *Host) EnsureBridge(b Bridge) error {
	link, err := h.link(b.Name)
	if errors.Is(err, ErrNotFound) {
		snooping := false
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = b.Name, b.MTU, b.MAC
		if err := h.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make bridge %s: %w", b.Name, err)
		}
		link, err = h.link(b.Name)
	}
	if err != nil {
		return err
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("bridge %s: %w: a %s", b.Name, ErrForeign, link.Type())
	}
	attrs := link.Attrs()
	if b.MTU != 0 && attrs.MTU != b.MTU {
		if err := h.handle.LinkSetMTU(link, b.MTU); err != nil {
			return fmt.Errorf("set MTU of bridge %s: %w", b.Name, err)
		}
	}
	if b.MAC != nil && !bytes.Equal(attrs.HardwareAddr, b.MAC) {
		if err := h.handle.LinkSetHardwareAddr(link, b.MAC); err != nil {
			return fmt.Errorf("set address of bridge %s: %w", b.Name, err)
		}
	}
	if err := h.setAddresses(b.Name, b.Addresses); err != nil {
		return err
	}
	return h.SetUp(b.Name)
}

// setAddresses gives a link exactly the addresses, link-local ones apart.
func (h *Host) setAddresses(name string, want []netip.Prefix) error {
	have, err := h.Addresses(name)
	if err != nil {
		return err
	}
	for _, p := range have {
		if !slices.Contains(want, p) && !p.Addr().IsLinkLocalUnicast() {
			if err := h.DeleteAddress(name, p); err != nil {
				return err
			}
		}
	}
	for _, p := range want {
		if !slices.Contains(have, p) {
			if err := h.EnsureAddress(name, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Veth is a pair of links: Name here, and PeerName in another namespace.
type Veth struct {
	Name     string
	PeerName string
	// Peer is the namespace of the other end.
	Peer *Namespace
	// PeerMAC is the hardware address of the other end; nil lets the kernel choose.
	PeerMAC net.HardwareAddr
	// MTU of both ends in bytes; 0 leaves the kernel's choice.
	MTU int
	// Bridge, if set, is the bridge that Name becomes a port of, in hairpin mode, so that a pod reaches itself through
	// an address that is translated on the bridge's host.
	Bridge string
}

// CreateVeth makes a pair, both ends up, after removing a link of the same name that an interrupted call left.
func (h *Host) CreateVeth(v Veth) error {
	if err := h.DeleteLink(v.Name); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = v.Name, v.MTU
	if v.Bridge != "" {
		bridge, err := h.link(v.Bridge)
		if err != nil {
			return err
		}
		attrs.MasterIndex = bridge.Attrs().Index
	}
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerMTU = v.PeerName, v.PeerMAC, uint32(max(v.MTU, 0))
	pair.PeerNamespace = netlink.NsFd(v.Peer.FD())
	if err := h.handle.LinkAdd(pair); err != nil {
		return fmt.Errorf("make veth pair %s, %s: %w", v.Name, v.PeerName, err)
	}
	if err := h.finishVeth(v); err != nil {
		return errors.Join(err, h.DeleteLink(v.Name))
	}
	return nil
}

func (h *Host) finishVeth(v Veth) error {
	link, err := h.link(v.Name)
	if err != nil {
		return err
	}
	if v.Bridge != "" {
		if err := h.handle.LinkSetHairpin(link, true); err != nil {
			return fmt.Errorf("set hairpin mode of %s: %w", v.Name, err)
		}
	}
	if err := h.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up link %s: %w", v.Name, err)
	}
	return nil
}

// DeletePorts removes all links that are ports of a bridge, and reports how many.
func (h *Host) DeletePorts(bridge string) (int, error) {
	b, err := h.link(bridge)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	links, err := h.Links()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, l := range links {
		if l.Master == b.Attrs().Index {
			if err := h.DeleteLink(l.Name); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// VXLAN is a tunnel device without learning: the caller names every peer.
type VXLAN struct {
	Name string
	ID   int
	// Local is the address of this end on the underlay.
	Local netip.Addr
	// Port is the UDP port of all ends.
	Port int
	// MAC is the device's hardware address, by which peers address it.
	MAC net.HardwareAddr
	// MTU in bytes; 0 means that of the underlay less the headers, by the kernel.
	MTU       int
	Addresses []netip.Prefix
}

// EnsureVXLAN makes a tunnel device, up, as described. One with other parameters is replaced, and its routes with it.
func (h *Host) EnsureVXLAN(v VXLAN) error {
	link, err := h.link(v.Name)
	if err == nil {
		have, ok := link.(*netlink.Vxlan)
		if !ok {
			return fmt.Errorf("tunnel %s: %w: a %s", v.Name, ErrForeign, link.Type())
		}
		if have.VxlanId != v.ID || have.Port != v.Port || addrOf(have.SrcAddr) != v.Local || !bytes.Equal(have.HardwareAddr, v.MAC) {
			if err := h.DeleteLink(v.Name); err != nil {
				return err
			}
			err = ErrNotFound
		}
	}
	if errors.Is(err, ErrNotFound) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = v.Name, v.MAC, v.MTU
		err = h.handle.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: v.ID, SrcAddr: v.Local.AsSlice(), Port: v.Port, Learning: false})
	}
	if err != nil {
		return fmt.Errorf("make tunnel %s: %w", v.Name, err)
	}
	if err := h.setAddresses(v.Name, v.Addresses); err != nil {
		return err
	}
	return h.SetUp(v.Name)
}

// TunnelPeer is one other end of a VXLAN.
type TunnelPeer struct {
	// Remote is its address on the underlay.
	Remote netip.Addr
	// MAC is the hardware address of its device.
	MAC net.HardwareAddr
	// Addresses are those for which MAC answers on the tunnel: the next hops of routes through it.
	Addresses []netip.Addr
}

// EnsureTunnelPeer lets the tunnel device reach a peer: a forwarding entry for its hardware address and permanent neighbours.
func (h *Host) EnsureTunnelPeer(device string, p TunnelPeer) error {
	link, err := h.link(device)
	if err != nil {
		return err
	}
	entries := []*netlink.Neigh{{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
		IP: p.Remote.AsSlice(), HardwareAddr: p.MAC,
	}}
	for _, a := range p.Addresses {
		entries = append(entries, &netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: p.MAC,
		})
	}
	for _, e := range entries {
		if err := h.handle.NeighSet(e); err != nil {
			return fmt.Errorf("add peer %s of tunnel %s: %w", p.Remote, device, err)
		}
	}
	return nil
}

// KeepTunnelPeers removes the neighbours and forwarding entries of the device whose hardware address is not in keep.
func (h *Host) KeepTunnelPeers(device string, keep []net.HardwareAddr) error {
	link, err := h.link(device)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, family := range []int{unix.AF_BRIDGE, unix.AF_INET, unix.AF_INET6} {
		list, err := h.handle.NeighList(link.Attrs().Index, family)
		if err != nil {
			return fmt.Errorf("list peers of tunnel %s: %w", device, err)
		}
		for _, n := range list {
			if n.State&netlink.NUD_PERMANENT == 0 || slices.ContainsFunc(keep, func(m net.HardwareAddr) bool { return bytes.Equal(m, n.HardwareAddr) }) {
				continue
			}
			if family == unix.AF_BRIDGE {
				n.Family, n.Flags = unix.AF_BRIDGE, netlink.NTF_SELF
			}
			if err := h.handle.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete peer %s of tunnel %s: %w", n.HardwareAddr, device, err)
			}
		}
	}
	return nil
}
