// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package endpoints says which pods stand behind a Service and at which ports, for the Endpoints and EndpointSlice
// controllers.
package endpoints

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kogge.dev/kogge/rules/pods"
)

// MaxPerSlice is how many endpoints one EndpointSlice holds, upstream's default.
const MaxPerSlice = 100

// Selects reports whether the Service finds its endpoints by pods at all.
func Selects(svc *corev1.Service) bool {
	return svc.Spec.Selector != nil && svc.Spec.Type != corev1.ServiceTypeExternalName
}

// Eligible reports whether a pod can stand behind a Service: it has an address and has not finished. Pods that are being
// deleted count, marked as terminating.
func Eligible(pod *corev1.Pod) bool {
	return len(pod.Status.PodIPs) > 0 && !pods.IsFinished(pod)
}

// Address returns the pod's address of a family, or "".
func Address(pod *corev1.Pod, family corev1.IPFamily) string {
	for _, ip := range pod.Status.PodIPs {
		if FamilyOf(ip.IP) == family {
			return ip.IP
		}
	}
	return ""
}

// FamilyOf returns an address's family, "" when it is none.
func FamilyOf(ip string) corev1.IPFamily {
	address, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return ""
	case address.Unmap().Is4():
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// Ports returns the slice ports that svc has on pod: target ports by name differ from pod to pod. Ports that the pod does
// not have are left out.
func Ports(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		number, ok := TargetPort(pod, p)
		if !ok {
			continue
		}
		name, protocol := p.Name, p.Protocol
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: p.AppProtocol})
	}
	return ports
}

// TargetPort resolves a Service port on a pod.
func TargetPort(pod *corev1.Pod, p *corev1.ServicePort) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		return p.TargetPort.IntVal, true
	}
	find := func(ports []corev1.ContainerPort) (int32, bool) {
		for _, cp := range ports {
			if cp.Name == p.TargetPort.StrVal && cp.Protocol == p.Protocol {
				return cp.ContainerPort, true
			}
		}
		return 0, false
	}
	for i := range pod.Spec.Containers {
		if n, ok := find(pod.Spec.Containers[i].Ports); ok {
			return n, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if n, ok := find(c.Ports); ok {
				return n, true
			}
		}
	}
	return 0, false
}

// Of returns the endpoint that a pod is for svc. zone is its node's, or empty.
func Of(svc *corev1.Service, pod *corev1.Pod, family corev1.IPFamily, zone string) discoveryv1.Endpoint {
	serving, terminating := pods.IsReady(pod), pod.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || (serving && !terminating)
	endpoint := discoveryv1.Endpoint{
		Addresses:  []string{Address(pod, family)},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		node := pod.Spec.NodeName
		endpoint.NodeName = &node
	}
	if zone != "" {
		endpoint.Zone = &zone
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name && pod.Namespace == svc.Namespace {
		hostname := pod.Spec.Hostname
		endpoint.Hostname = &hostname
	}
	switch distribution(svc) {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		if zone != "" && ready {
			endpoint.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		}
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if ready && endpoint.NodeName != nil {
			endpoint.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: *endpoint.NodeName}}}
			if zone != "" {
				endpoint.Hints.ForZones = []discoveryv1.ForZone{{Name: zone}}
			}
		}
	}
	return endpoint
}

func distribution(svc *corev1.Service) string {
	if svc.Spec.TrafficDistribution == nil {
		return ""
	}
	return *svc.Spec.TrafficDistribution
}

// Families returns the address families that the Service's endpoints have.
func Families(svc *corev1.Service) []corev1.IPFamily {
	if len(svc.Spec.IPFamilies) > 0 {
		return svc.Spec.IPFamilies
	}
	if family := FamilyOf(svc.Spec.ClusterIP); family != "" {
		return []corev1.IPFamily{family}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// PortsKey identifies a set of ports, whatever their order.
func PortsKey(ports []discoveryv1.EndpointPort) string {
	texts := make([]string, 0, len(ports))
	for _, p := range ports {
		var b strings.Builder
		if p.Name != nil {
			b.WriteString(*p.Name)
		}
		b.WriteByte('/')
		if p.Protocol != nil {
			b.WriteString(string(*p.Protocol))
		}
		b.WriteByte('/')
		if p.Port != nil {
			b.WriteString(strconv.Itoa(int(*p.Port)))
		}
		b.WriteByte('/')
		if p.AppProtocol != nil {
			b.WriteString(*p.AppProtocol)
		}
		texts = append(texts, b.String())
	}
	slices.Sort(texts)
	return strings.Join(texts, ",")
}
