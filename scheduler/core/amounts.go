// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"

	"kogge.dev/kogge/rules/podresource"
)

// What scoring assumes of a container that requests nothing, so that such pods spread too.
const (
	assumedMilliCPU = 100
	assumedMemory   = 200 << 20
)

// Amounts are quantities of a node's resources in integers.
type Amounts struct {
	MilliCPU  int64 // thousandths of a core
	Memory    int64 // bytes
	Ephemeral int64 // bytes of local storage
	// Extended holds hugepages and extended resources, in their own units; nil when there is none.
	Extended map[corev1.ResourceName]int64
}

// AmountsOf converts a list; CPU is rounded up to a thousandth. "pods" is left out.
func AmountsOf(list corev1.ResourceList) Amounts {
	var a Amounts
	for name, quantity := range list {
		switch name {
		case corev1.ResourceCPU:
			a.MilliCPU = quantity.MilliValue()
		case corev1.ResourceMemory:
			a.Memory = quantity.Value()
		case corev1.ResourceEphemeralStorage:
			a.Ephemeral = quantity.Value()
		case corev1.ResourcePods:
		default:
			if a.Extended == nil {
				a.Extended = map[corev1.ResourceName]int64{}
			}
			a.Extended[name] = quantity.Value()
		}
	}
	return a
}

// Of returns the amount of one resource.
func (a *Amounts) Of(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return a.MilliCPU
	case corev1.ResourceMemory:
		return a.Memory
	case corev1.ResourceEphemeralStorage:
		return a.Ephemeral
	default:
		return a.Extended[name]
	}
}

// add adds b, sign times. The map of extended resources is replaced, never changed, because snapshots share it.
func (a *Amounts) add(b *Amounts, sign int64) {
	a.MilliCPU += sign * b.MilliCPU
	a.Memory += sign * b.Memory
	a.Ephemeral += sign * b.Ephemeral
	if len(b.Extended) == 0 {
		return
	}
	sum := make(map[corev1.ResourceName]int64, len(a.Extended)+len(b.Extended))
	maps.Copy(sum, a.Extended)
	for name, v := range b.Extended {
		sum[name] += sign * v
	}
	a.Extended = sum
}

// IsZero reports whether nothing is asked for.
func (a *Amounts) IsZero() bool {
	if a.MilliCPU != 0 || a.Memory != 0 || a.Ephemeral != 0 {
		return false
	}
	for _, v := range a.Extended {
		if v != 0 {
			return false
		}
	}
	return true
}

// requestsOf sums up what a pod asks for: really, and as scoring sees it.
func requestsOf(pod *corev1.Pod) (requests, scored Amounts) {
	requests = AmountsOf(podresource.Requests(pod))
	missing := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(assumedMilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(assumedMemory, resource.BinarySI),
	}
	scored = AmountsOf(podresource.RequestsOr(pod, missing))
	return requests, scored
}

// ports returns the host ports that a pod's containers claim.
func hostPorts(pod *corev1.Pod) []HostPort {
	var out []HostPort
	seen := sets.Set[HostPort]{}
	collect := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort <= 0 {
				continue
			}
			port := HostPort{IP: p.HostIP, Protocol: p.Protocol, Port: p.HostPort}
			if port.IP == "" {
				port.IP = anyIP
			}
			if port.Protocol == "" {
				port.Protocol = corev1.ProtocolTCP
			}
			if !seen.Has(port) {
				seen.Insert(port)
				out = append(out, port)
			}
		}
	}
	for i := range pod.Spec.Containers {
		collect(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			collect(c)
		}
	}
	return out
}

const anyIP = "0.0.0.0"

// HostPort is a port that a pod takes on its node. IP "0.0.0.0" stands for all addresses.
type HostPort struct {
	IP       string
	Protocol corev1.Protocol
	Port     int32
}

// Conflicts reports whether both can't be taken on one node.
func (p HostPort) Conflicts(q HostPort) bool {
	return p.Port == q.Port && p.Protocol == q.Protocol && (p.IP == q.IP || p.IP == anyIP || q.IP == anyIP)
}
