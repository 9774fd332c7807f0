// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
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
