// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"kogge.dev/kogge/cni/ipam"
	"kogge.dev/kogge/nft"
)

// attachment is one interface of one pod.
type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
	// Netns is the path of the pod's network namespace.
	Netns string `json:"netns"`
	// Pod is "namespace/name", for people; may be empty.
	Pod string `json:"pod,omitempty"`
	// HostLink is the near end of the veth pair.
	HostLink  string        `json:"hostLink"`
	Addresses []netip.Addr  `json:"addresses"`
	Ports     []portMapping `json:"ports,omitempty"`
}

// portMapping is an entry of the capability argument portMappings.
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

func (a attachment) owner() ipam.Owner {
	return ipam.Owner{ContainerID: a.ContainerID, IfName: a.IfName}
}

// backends are the host ports of the attachment, for each address family of the pod that a mapping is about.
func (a attachment) backends() []backend {
	var out []backend
	for _, m := range a.Ports {
		hostIP, _ := netip.ParseAddr(m.HostIP)
		hostIP = hostIP.Unmap()
		for _, pod := range a.Addresses {
			if hostIP.IsValid() && nft.Version(hostIP) != nft.Version(pod) {
				continue
			}
			b := backend{HostPort: uint16(m.HostPort), Protocol: protocols()[strings.ToLower(m.Protocol)], Pod: pod, PodPort: uint16(m.ContainerPort)}
			if hostIP.IsValid() && !hostIP.IsUnspecified() {
				b.HostIP = hostIP
			}
			out = append(out, b)
		}
	}
	return out
}

func protocols() map[string]uint8 {
	return map[string]uint8{"": nft.TCP, "tcp": nft.TCP, "udp": nft.UDP, "sctp": nft.SCTP}
}

// validatePort refuses a mapping that cannot work.
func validatePort(m portMapping) error {
	if m.HostPort < 1 || m.HostPort > 65535 || m.ContainerPort < 1 || m.ContainerPort > 65535 {
		return fmt.Errorf("port mapping %d to %d: ports are from 1 to 65535", m.HostPort, m.ContainerPort)
	}
	if _, ok := protocols()[strings.ToLower(m.Protocol)]; !ok {
		return fmt.Errorf("port mapping %d: unknown protocol %q", m.HostPort, m.Protocol)
	}
	if m.HostIP != "" {
		if _, err := netip.ParseAddr(m.HostIP); err != nil {
			return fmt.Errorf("port mapping %d: %w", m.HostPort, err)
		}
	}
	return nil
}

// hostLink names the near end of a pair; the name follows from the owner, so that a repeated ADD finds it.
func hostLink(o ipam.Owner) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(o.String()))
	return fmt.Sprintf("kp%012x", h.Sum64()&(1<<48-1))
}

// store keeps attachments, one file each. Files are replaced by rename without a sync: they matter only as long as the
// pods' namespaces exist, and these do not survive what a sync protects against, the loss of power.
type store struct{ dir string }

func (s store) path(o ipam.Owner) string {
	// Both parts are checked by the verb: no separators.
	return filepath.Join(s.dir, o.ContainerID+"."+o.IfName+".json")
}

// load reads all attachments. A file that cannot be read is from a crash of the machine and is removed.
func (s store) load() (map[ipam.Owner]attachment, error) {
	out := map[ipam.Owner]attachment{}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("read attachments: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("read attachments: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read attachment: %w", err)
		}
		var a attachment
		if json.Unmarshal(data, &a) != nil || s.path(a.owner()) != path {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove torn attachment: %w", err)
			}
			continue
		}
		out[a.owner()] = a
	}
	return out, nil
}

func (s store) put(a attachment) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("store attachment: %w", err)
	}
	path := s.path(a.owner())
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("store attachment: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("store attachment: %w", err)
	}
	return nil
}

func (s store) remove(o ipam.Owner) error {
	if err := os.Remove(s.path(o)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove attachment: %w", err)
	}
	return nil
}
