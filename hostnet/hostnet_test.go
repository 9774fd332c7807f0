// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostnet_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/internal/need"
)

// host is a network in a namespace of its own.
func host(t *testing.T) *hostnet.Host {
	t.Helper()
	need.Root(t, "network namespaces are made")
	path := filepath.Join(t.TempDir(), "ns")
	if err := hostnet.CreateNamespace(path); err != nil {
		t.Fatal(err)
	}
	h, err := hostnet.New(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), hostnet.RemoveNamespace(path), hostnet.RemoveNamespace(path)); err != nil {
			t.Error(err)
		}
	})
	return h
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestBridgeBecomesWhatIsAskedFor(t *testing.T) {
	h := host(t)
	for _, want := range [][]netip.Prefix{
		prefixes("10.1.0.1/24", "fd00::1/64"), prefixes("10.1.0.1/24", "fd00::1/64"), prefixes("10.2.0.1/24"),
	} {
		must(t, h.EnsureBridge(hostnet.Bridge{Name: "br", MTU: 1400, MAC: []byte{2, 0, 0, 0, 0, 1}, Addresses: want}))
		all, err := h.Addresses("br")
		must(t, err)
		var got []netip.Prefix
		for _, p := range all {
			if !p.Addr().IsLinkLocalUnicast() {
				got = append(got, p)
			}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("addresses (-want +got):\n%s", diff)
		}
	}
	link, err := h.Link("br")
	if err != nil || link.MTU != 1400 || link.MAC.String() != "02:00:00:00:00:01" || !link.Up || link.Kind != "bridge" {
		t.Errorf("Link = %+v, %v", link, err)
	}
	if err := h.EnsureBridge(hostnet.Bridge{Name: "lo"}); !errors.Is(err, hostnet.ErrForeign) {
		t.Errorf("EnsureBridge(lo) = %v, want ErrForeign", err)
	}
	if _, err := h.Link("none"); !errors.Is(err, hostnet.ErrNotFound) {
		t.Errorf("Link(none) = %v, want ErrNotFound", err)
	}
	must(t, h.DeleteLink("br"), h.DeleteLink("br"), h.DeleteAddress("br", netip.MustParsePrefix("10.1.0.1/24")))
}

func TestVethIsRemadeAndPortsGoWithTheirBridge(t *testing.T) {
	near, far := host(t), host(t)
	must(t, near.EnsureBridge(hostnet.Bridge{Name: "br"}))
	for range 2 {
		must(t, near.CreateVeth(hostnet.Veth{Name: "v0", PeerName: "eth0", Peer: far.Namespace(), Bridge: "br", MTU: 1300}))
	}
	if link, err := far.Link("eth0"); err != nil || link.MTU != 1300 {
		t.Errorf("far end = %+v, %v, want MTU 1300", link, err)
	}
	if n, err := near.DeletePorts("br"); err != nil || n != 1 {
		t.Errorf("DeletePorts = %d, %v, want 1", n, err)
	}
	if _, err := far.Link("eth0"); !errors.Is(err, hostnet.ErrNotFound) {
		t.Errorf("far end after DeletePorts: %v, want ErrNotFound", err)
	}
	if err := near.CreateVeth(hostnet.Veth{Name: "v0", PeerName: "eth0", Peer: far.Namespace(), Bridge: "none"}); !errors.Is(err, hostnet.ErrNotFound) {
		t.Errorf("CreateVeth on no bridge = %v, want ErrNotFound", err)
	}
}

func TestRoutesOfOursAreToldFromOthers(t *testing.T) {
	h := host(t)
	must(t, h.EnsureBridge(hostnet.Bridge{Name: "br", Addresses: prefixes("10.1.0.1/24")}))
	want := []hostnet.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.2"), Dev: "br"},
		{Dst: netip.MustParsePrefix("10.9.0.0/24"), Via: netip.MustParseAddr("10.1.0.3"), Dev: "br"},
		{Dst: netip.MustParsePrefix("10.9.1.0/24"), Via: netip.MustParseAddr("172.16.0.1"), Dev: "br", OnLink: true},
	}
	for range 2 {
		for _, r := range want {
			must(t, h.EnsureRoute(r))
		}
	}
	got, err := h.Routes()
	must(t, err)
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("Routes (-want +got):\n%s", diff)
	}
	if r, err := h.Lookup(netip.MustParseAddr("10.9.0.7")); err != nil || r.Via.String() != "10.1.0.3" || r.Dev != "br" {
		t.Errorf("Lookup = %+v, %v", r, err)
	}
	if r, err := h.DefaultRoute(4); err != nil || r.Dev != "br" {
		t.Errorf("DefaultRoute = %+v, %v", r, err)
	}
	if _, err := h.DefaultRoute(6); !errors.Is(err, hostnet.ErrNotFound) {
		t.Errorf("DefaultRoute(6) = %v, want ErrNotFound", err)
	}
	for range 2 {
		must(t, h.DeleteRoute(want[1].Dst))
	}
	if got, err := h.Routes(); err != nil || len(got) != 2 {
		t.Errorf("Routes after DeleteRoute = %v, %v, want two", got, err)
	}
}

func TestNamespacesThatAreGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := hostnet.Open(file); !errors.Is(err, hostnet.ErrNoNamespace) {
		t.Errorf("Open of a plain file = %v, want ErrNoNamespace", err)
	}
	if _, err := hostnet.Open(file + "-none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of nothing = %v, want ErrNotExist", err)
	}
}
