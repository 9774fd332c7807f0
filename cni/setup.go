// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	nftables "github.com/google/nftables"

	"kogge.dev/kogge/cri/containerd/embedded"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/nft"
)

// defaultMTU is that of Ethernet, for a node without a default route.
const defaultMTU = 1500

// install puts the plugin where the runtime looks for it.
func (s *Server) install() error {
	path := filepath.Join(s.config.BinDir, embedded.CNI)
	if err := s.recordCache(); err != nil {
		return err
	}
	if err := s.recordFile(path); err != nil {
		return err
	}
	if err := s.config.Ledger.Record(ledger.Entry{Kind: ledger.File, Name: embedded.Stamp(path)}); err != nil {
		return err
	}
	if err := embedded.Extract(embedded.CNI, path); err != nil {
		return fmt.Errorf("install CNI plugin: %w", err)
	}
	return nil
}

// recordFile records a file, and those of its folders that are not there yet.
func (s *Server) recordFile(path string) error {
	var folders []string
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		folders = append(folders, dir)
	}
	slices.Reverse(folders)
	for _, dir := range folders {
		if err := s.config.Ledger.Record(ledger.Entry{Kind: ledger.Folder, Name: dir}); err != nil {
			return err
		}
	}
	return s.config.Ledger.Record(ledger.Entry{Kind: ledger.File, Name: path})
}

// writeConf writes the network configuration unless it says the same already: the runtime reloads on every write.
func (s *Server) writeConf() error {
	path := filepath.Join(s.config.ConfDir, confFile)
	text, err := json.MarshalIndent(map[string]any{
		"cniVersion": cniVersion,
		"name":       networkName,
		"plugins": []any{map[string]any{
			"type": embedded.CNI, "socket": s.config.Socket, "capabilities": map[string]bool{"portMappings": true},
		}},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	text = append(text, '\n')
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	if err := s.recordFile(path); err != nil {
		return err
	}
	if err := os.MkdirAll(s.config.ConfDir, 0o755); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	// Runtimes take files that end in .conflist only; the rename makes it appear whole.
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	return nil
}

// setupLocked makes what all pods of the node share.
func (s *Server) setupLocked(ctx context.Context) error {
	l := s.config.Ledger
	six := slices.ContainsFunc(s.addresses.Ranges(), func(p netip.Prefix) bool { return p.Addr().Is6() })
	settings := []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"}
	if six {
		settings = append(settings, "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-ip6tables")
	}
	for _, name := range settings {
		if err := l.SetSysctl(s.host, name, "1"); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("configure pod network: this kernel lacks %s; load the module br_netfilter: %w", name, err)
			}
			return fmt.Errorf("configure pod network: %w", err)
		}
	}
	s.mtu = s.linkMTU()
	if err := l.Record(ledger.Entry{Kind: ledger.Link, Name: s.config.Bridge}); err != nil {
		return err
	}
	gateways := s.addresses.Gateways()
	err := s.host.EnsureBridge(bridge(s.config.Bridge, s.mtu, gateways))
	if err != nil {
		return fmt.Errorf("configure pod network: %w", err)
	}
	// Host ports of 127.0.0.1 leave over the bridge with that source until they are masqueraded.
	if err := s.host.SetSysctl("net/ipv4/conf/"+s.config.Bridge+"/route_localnet", "1"); err != nil {
		return fmt.Errorf("configure pod network: %w", err)
	}
	if err := s.host.SetUp("lo"); err != nil {
		return fmt.Errorf("configure pod network: %w", err)
	}
	if err := l.Record(ledger.Entry{Kind: ledger.Table, Name: tableName}); err != nil {
		return err
	}
	s.applied = nil // not known after a start: replaced as a whole
	if err := s.applyLocked(); err != nil {
		return err
	}
	for _, where := range s.foreignDrops() {
		s.config.Logger.WarnContext(ctx, "another nftables chain drops forwarded packets by default; pods may be cut off", "chain", where)
	}
	return nil
}

// linkMTU is the configured MTU, or that of the link of the default route.
func (s *Server) linkMTU() int {
	if s.config.MTU != 0 {
		return s.config.MTU
	}
	for _, family := range []int{4, 6} {
		if route, err := s.host.DefaultRoute(family); err == nil {
			if link, err := s.host.Link(route.Dev); err == nil && link.MTU > 0 {
				return min(link.MTU, 65535)
			}
		}
	}
	return defaultMTU
}

// applyLocked makes the kernel's table equal to what the attachments ask for.
func (s *Server) applyLocked() error {
	want := compile(s.rulesLocked())
	tx := nft.Replace(want)
	if s.applied != nil {
		tx = nft.Diff(s.applied, want)
	}
	if err := s.tables.Apply(tx); err != nil {
		s.applied = nil
		return fmt.Errorf("apply host ports: %w", err)
	}
	s.applied = want
	return nil
}

// rulesLocked gathers the input of the table.
func (s *Server) rulesLocked() rules {
	r := rules{Local: s.addresses.Ranges(), Cluster: append(slices.Clone(s.config.ClusterCIDRs), s.addresses.Ranges()...)}
	for _, a := range s.attachments {
		r.Ports = append(r.Ports, a.backends()...)
	}
	return r
}

// foreignDrops lists chains of others that drop forwarded packets unless told otherwise, as docker's do. An accept in
// our tables cannot overrule them.
func (s *Server) foreignDrops() []string {
	conn, err := nftables.New(nftables.WithNetNSFd(s.host.Namespace().FD()))
	if err != nil {
		return nil
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil
	}
	var out []string
	for _, c := range chains {
		if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			out = append(out, c.Table.Name+"/"+c.Name)
		}
	}
	return out
}

// podMAC is the hardware address of the pod that has addr. It follows from the address, so that a neighbour that
// remembers the last pod of that address reaches the next one.
func podMAC(addr netip.Addr) net.HardwareAddr {
	b := addr.AsSlice()
	mac := net.HardwareAddr{0x0a, 0x58}
	return append(mac, b[len(b)-4:]...)
}
