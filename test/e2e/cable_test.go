// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// connect makes a veth pair e2e0, e2e1 with one end in each namespace.
func connect(near, far string) error {
	a, err := netns.GetFromPath(near)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := netns.GetFromPath(far)
	if err != nil {
		return err
	}
	defer b.Close()
	handle, err := netlink.NewHandleAt(a)
	if err != nil {
		return err
	}
	defer handle.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "e2e0"
	return handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "e2e1", PeerNamespace: netlink.NsFd(int(b))})
}

// tablesIn lists the nftables tables of a namespace; Debian's nft can't read ours.
func tablesIn(namespace string) ([]string, error) {
	ns, err := netns.GetFromPath(namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTables()
	var names []string
	for _, t := range tables {
		names = append(names, t.Name)
	}
	return names, err
}

// cut removes the cable from a namespace and takes its loopback interface down, as in a namespace that was just made.
func cut(namespace string) error {
	ns, err := netns.GetFromPath(namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer handle.Close()
	links, err := handle.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Type() == "veth" {
			err = handle.LinkDel(link)
		} else if link.Attrs().Name == "lo" {
			err = handle.LinkSetDown(link)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
