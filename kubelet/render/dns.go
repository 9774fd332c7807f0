// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The limits that resolvers are known to keep.
const (
	maxNameservers  = 3
	maxSearches     = 32
	maxSearchLength = 2048
	maxDomain       = 253
)

// Resolver is what pods' resolver files are made from.
type Resolver struct {
	// ClusterDNS are the addresses of the cluster's DNS service, ClusterDomain its domain.
	ClusterDNS    []string
	ClusterDomain string
	// Host is the node's own resolver file.
	Host *runtimeapi.DNSConfig
	// HostIP stands in for a missing nameserver of pods with the Default policy.
	HostIP string
}

// ParseResolvConf reads a resolver file.
func ParseResolvConf(text string) *runtimeapi.DNSConfig {
	out := &runtimeapi.DNSConfig{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], ";") {
			continue
		}
		switch words[0] {
		case "nameserver":
			out.Servers = append(out.Servers, words[1])
		case "search":
			out.Searches = nil // the last line counts
			for _, s := range words[1:] {
				if s != "." {
					out.Searches = append(out.Searches, strings.TrimSuffix(s, "."))
				}
			}
		case "options":
			out.Options = mergeOptions(out.Options, words[1:])
		}
	}
	return out
}

// Pod returns a pod's resolver configuration, and what had to be left out of it as messages for an event.
func (r Resolver) Pod(p *corev1.Pod) (*runtimeapi.DNSConfig, []string, error) {
	host := r.Host
	if host == nil {
		host = &runtimeapi.DNSConfig{}
	}
	out := &runtimeapi.DNSConfig{Servers: slices.Clone(host.Servers), Searches: slices.Clone(host.Searches), Options: slices.Clone(host.Options)}
	var notes []string
	policy := p.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && p.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
		out = &runtimeapi.DNSConfig{}
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, "":
		if len(r.ClusterDNS) > 0 {
			out.Servers = slices.Clone(r.ClusterDNS)
			out.Searches = r.clusterSearches(p, host.Searches)
			out.Options = []string{"ndots:5"}
			break
		}
		notes = append(notes, fmt.Sprintf("pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
			p.Name+"_"+p.Namespace+"("+string(p.UID)+")", p.Spec.DNSPolicy, corev1.DNSDefault))
	case corev1.DNSDefault:
		if len(out.Servers) == 0 && len(out.Searches) == 0 && r.HostIP != "" && host.Servers == nil {
			out.Searches = []string{"."}
		}
	default:
		return nil, nil, fmt.Errorf("invalid DNSPolicy=%s", policy)
	}
	if c := p.Spec.DNSConfig; c != nil {
		out.Servers = unique(append(out.Servers, c.Nameservers...))
		out.Searches = unique(append(out.Searches, c.Searches...))
		var extra []string
		for _, o := range c.Options {
			if o.Value != nil && *o.Value != "" {
				extra = append(extra, o.Name+":"+*o.Value)
			} else {
				extra = append(extra, o.Name)
			}
		}
		out.Options = mergeOptions(out.Options, extra)
	}
	notes = append(notes, limitServers(out)...)
	notes = append(notes, limitSearches(out)...)
	return out, notes, nil
}

func (r Resolver) clusterSearches(p *corev1.Pod, host []string) []string {
	if r.ClusterDomain == "" {
		return slices.Clone(host)
	}
	return unique(append([]string{p.Namespace + ".svc." + r.ClusterDomain, "svc." + r.ClusterDomain, r.ClusterDomain}, host...))
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// mergeOptions lets later options replace earlier ones of the same name.
func mergeOptions(base, extra []string) []string {
	for _, option := range extra {
		name, _, _ := strings.Cut(option, ":")
		i := slices.IndexFunc(base, func(have string) bool { n, _, _ := strings.Cut(have, ":"); return n == name })
		if i >= 0 {
			base[i] = option
		} else {
			base = append(base, option)
		}
	}
	return base
}

func limitServers(c *runtimeapi.DNSConfig) []string {
	if len(c.Servers) <= maxNameservers {
		return nil
	}
	c.Servers = c.Servers[:maxNameservers]
	return []string{"Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " + strings.Join(c.Servers, " ")}
}

func limitSearches(c *runtimeapi.DNSConfig) []string {
	kept, length := []string{}, 0
	for _, s := range c.Searches {
		if len(kept) == maxSearches || len(s) > maxDomain || length+len(s)+1 > maxSearchLength+1 {
			continue
		}
		kept = append(kept, s)
		length += len(s) + 1
	}
	if len(kept) == len(c.Searches) {
		return nil
	}
	c.Searches = kept
	return []string{"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(kept, " ")}
}

// Hosts renders a pod's hosts file.
func Hosts(p *corev1.Pod, ips []string, hostname, domain string, hostFile []byte) []byte {
	var b strings.Builder
	if p.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(hostFile)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n")
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n")
		b.WriteString("fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		for _, ip := range ips {
			if domain != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, hostname, domain, hostname)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, hostname)
			}
		}
	}
	if len(p.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, alias := range p.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
		}
	}
	return []byte(b.String())
}
