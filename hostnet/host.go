// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNotFound is returned for a link that does not exist.
var ErrNotFound = errors.New("link not found")

// ErrForeign is returned when something that is not ours has the name that is asked for.
var ErrForeign = errors.New("name is taken by something else")

// Host is the network of one namespace. It is safe for concurrent use.
type Host struct {
	namespace *Namespace
	handle    *netlink.Handle
}

// New opens the network of the namespace at path; empty means that of this process. Close releases it.
func New(path string) (*Host, error) {
	ns, err := Open(path)
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), ns.Close())
	}
	return &Host{namespace: ns, handle: handle}, nil
}

// Close releases the namespace and its sockets.
func (h *Host) Close() error {
	h.handle.Close()
	return h.namespace.Close()
}

// Namespace is the host's namespace; it is closed with the host.
func (h *Host) Namespace() *Namespace { return h.namespace }

// link finds a link by name.
func (h *Host) link(name string) (netlink.Link, error) {
	link, err := h.handle.LinkByName(name)
	if err != nil {
		if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
			return nil, fmt.Errorf("link %s: %w", name, ErrNotFound)
		}
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	return link, nil
}

// Link describes a link.
type Link struct {
	Name string
	// Kind is the kernel's name, as "bridge", "veth", "vxlan", "device".
	Kind  string
	Index int
	MTU   int
	MAC   net.HardwareAddr
	// Master is the index of the bridge that the link is a port of, or 0.
	Master int
	Up     bool
}

func describe(link netlink.Link) Link {
	a := link.Attrs()
	return Link{
		Name: a.Name, Kind: link.Type(), Index: a.Index, MTU: a.MTU, MAC: a.HardwareAddr, Master: a.MasterIndex,
		Up: a.Flags&net.FlagUp != 0,
	}
}

// Link returns a link by name, or ErrNotFound.
func (h *Host) Link(name string) (Link, error) {
	link, err := h.link(name)
	if err != nil {
		return Link{}, err
	}
	return describe(link), nil
}

// Links lists all links.
func (h *Host) Links() ([]Link, error) {
	list, err := h.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := make([]Link, 0, len(list))
	for _, link := range list {
		out = append(out, describe(link))
	}
	return out, nil
}

// SetUp brings a link up.
func (h *Host) SetUp(name string) error {
	link, err := h.link(name)
	if err != nil {
		return err
	}
	if err := h.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up link %s: %w", name, err)
	}
	return nil
}

// DeleteLink removes a link if it is there. Removing one end of a veth pair removes the other.
func (h *Host) DeleteLink(name string) error {
	link, err := h.link(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.handle.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// Addresses lists the addresses of a link with their prefix lengths.
func (h *Host) Addresses(name string) ([]netip.Prefix, error) {
	link, err := h.link(name)
	if err != nil {
		return nil, err
	}
	list, err := h.handle.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", name, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

// EnsureAddress gives a link an address. IPv6 addresses are usable at once: duplicate detection is off for them, since
// whoever calls this allocates addresses.
func (h *Host) EnsureAddress(name string, address netip.Prefix) error {
	link, err := h.link(name)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: ipNet(address)}
	if address.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.handle.AddrReplace(link, a); err != nil {
		return fmt.Errorf("add address %s to %s: %w", address, name, err)
	}
	return nil
}

// DeleteAddress takes an address from a link if it is there.
func (h *Host) DeleteAddress(name string, address netip.Prefix) error {
	link, err := h.link(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = h.handle.AddrDel(link, &netlink.Addr{IPNet: ipNet(address)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("delete address %s of %s: %w", address, name, err)
	}
	return nil
}

// Sysctl reads a kernel setting of the namespace, named with dots or slashes below /proc/sys. A dot in an interface
// name needs the slash form.
func (h *Host) Sysctl(name string) (string, error) {
	var value string
	err := h.namespace.Do(func() error {
		data, err := os.ReadFile(sysctlPath(name))
		value = strings.TrimSpace(string(data))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	return value, nil
}

// SetSysctl writes a kernel setting of the namespace.
func (h *Host) SetSysctl(name, value string) error {
	err := h.namespace.Do(func() error { return os.WriteFile(sysctlPath(name), []byte(value), 0o644) })
	if err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", name, value, err)
	}
	return nil
}

func sysctlPath(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return filepath.Join("/proc/sys", filepath.Clean("/"+name))
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
