// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package rules compiles NetworkPolicies into the nftables table kogge-netpol. It is pure: objects in, a table out.
//
// A pod of this node that some policy selects is one element in a verdict map per direction, which leads to the chain of its class:
// all pods with the same policies share one. A chain lists the rules of those policies; who and what a rule allows are elements of
// flat sets under the rule's identifier, so that a pod that comes or goes is a change of elements, not of chains.
package rules

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/nft"
)

// TableName is the table that the compiler owns.
const TableName = "kogge-netpol"

// Core holds the objects. It is not safe for concurrent use.
type Core struct {
	node       string
	policies   map[types.NamespacedName]*networkingv1.NetworkPolicy
	namespaces map[string]labels.Set
	pods       map[string]map[string]*pod // namespace -> name
}

// pod is what policies see of a Pod.
type pod struct {
	labels labels.Set
	addrs  []netip.Addr
	local  bool
	ports  map[namedPort]uint16
}

type namedPort struct {
	name  string
	proto uint8
}

// New makes a core for a node.
func New(node string) *Core {
	return &Core{
		node: node, policies: map[types.NamespacedName]*networkingv1.NetworkPolicy{}, namespaces: map[string]labels.Set{},
		pods: map[string]map[string]*pod{},
	}
}

// SetPolicy adds or replaces a policy.
func (c *Core) SetPolicy(p *networkingv1.NetworkPolicy) {
	c.policies[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
}

// DeletePolicy removes a policy.
func (c *Core) DeletePolicy(name types.NamespacedName) { delete(c.policies, name) }

// SetNamespace adds or replaces a namespace. It reports whether that can matter.
func (c *Core) SetNamespace(n *corev1.Namespace) bool {
	old, known := c.namespaces[n.Name]
	c.namespaces[n.Name] = n.Labels
	return !known || !maps.Equal(old, n.Labels)
}

// DeleteNamespace removes a namespace.
func (c *Core) DeleteNamespace(name string) { delete(c.namespaces, name) }

// SetPod adds or replaces a pod. It reports whether that can matter: most updates of a pod do not.
func (c *Core) SetPod(p *corev1.Pod) bool {
	now := c.parsePod(p)
	old := c.pods[p.Namespace][p.Name]
	if now == nil {
		return c.DeletePod(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
	}
	if old != nil && maps.Equal(old.labels, now.labels) && slices.Equal(old.addrs, now.addrs) && maps.Equal(old.ports, now.ports) && old.local == now.local {
		return false
	}
	if c.pods[p.Namespace] == nil {
		c.pods[p.Namespace] = map[string]*pod{}
	}
	c.pods[p.Namespace][p.Name] = now
	return true
}

// DeletePod removes a pod and reports whether it was known.
func (c *Core) DeletePod(name types.NamespacedName) bool {
	space := c.pods[name.Namespace]
	_, known := space[name.Name]
	delete(space, name.Name)
	if len(space) == 0 {
		delete(c.pods, name.Namespace)
	}
	return known
}

// parsePod returns nil for pods that have no address of their own: those of the host's network, and those that ended.
func (c *Core) parsePod(p *corev1.Pod) *pod {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	out := &pod{labels: p.Labels, local: p.Spec.NodeName == c.node, ports: map[namedPort]uint16{}}
	list := p.Status.PodIPs
	if len(list) == 0 {
		list = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, ip := range list {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.addrs = append(out.addrs, a.Unmap())
		}
	}
	if len(out.addrs) == 0 {
		return nil
	}
	read := func(containers []corev1.Container) {
		for i := range containers {
			for _, port := range containers[i].Ports {
				if port.Name != "" {
					out.ports[namedPort{port.Name, protocolNumber(&port.Protocol)}] = uint16(port.ContainerPort)
				}
			}
		}
	}
	for i := range p.Spec.InitContainers {
		if r := p.Spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			read(p.Spec.InitContainers[i : i+1])
		}
	}
	read(p.Spec.Containers)
	return out
}

func protocolNumber(p *corev1.Protocol) uint8 {
	if p == nil {
		return nft.TCP
	}
	switch *p {
	case corev1.ProtocolUDP:
		return nft.UDP
	case corev1.ProtocolSCTP:
		return nft.SCTP
	default:
		return nft.TCP
	}
}

// Table compiles everything. It returns nil if no policy selects a pod of this node: then there is nothing to enforce, and packets
// should not pay for a table.
func (c *Core) Table() *nft.Table {
	w := &compiler{core: c, table: skeleton(), rules: map[ruleKey]*allowance{}, ids: map[uint32]bool{}, selectors: map[*metav1.LabelSelector]labels.Selector{}}
	perNamespace := map[string][]*networkingv1.NetworkPolicy{}
	for _, p := range c.policies {
		perNamespace[p.Namespace] = append(perNamespace[p.Namespace], p)
	}
	isolated := false
	for _, ns := range slices.Sorted(maps.Keys(perNamespace)) {
		policies := perNamespace[ns]
		slices.SortFunc(policies, func(a, b *networkingv1.NetworkPolicy) int { return cmp.Compare(a.Name, b.Name) })
		for _, name := range slices.Sorted(maps.Keys(c.pods[ns])) {
			if p := c.pods[ns][name]; p.local {
				isolated = w.pod(p, policies) || isolated
			}
		}
	}
	if !isolated {
		return nil
	}
	return w.table
}

// direction is ingress or egress, seen from the pod that a policy selects.
type direction struct {
	name string // also the prefix of chains and maps
	kind networkingv1.PolicyType
}

func directions() []direction {
	return []direction{{"in", networkingv1.PolicyTypeIngress}, {"out", networkingv1.PolicyTypeEgress}}
}

// governs reports whether a policy is about a direction.
func (d direction) governs(p *networkingv1.NetworkPolicy) bool {
	if len(p.Spec.PolicyTypes) > 0 {
		return slices.Contains(p.Spec.PolicyTypes, d.kind)
	}
	return d.kind == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
}

// identify names a rule by a number that other policies' coming and going rarely changes.
func (w *compiler) identify(key ruleKey) uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%s/%d", key.policy, key.direction, key.index)
	id := h.Sum32()
	for w.ids[id] {
		id++
	}
	w.ids[id] = true
	return id
}
